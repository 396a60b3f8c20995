"""What sqlfluff puts in the place of dbt's target: the default one."""

name = "local"
schema = "marts"
