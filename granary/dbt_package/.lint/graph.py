"""What sqlfluff puts in the place of dbt's graph: a project with nothing in it."""

nodes: dict[str, object] = {}
sources: dict[str, object] = {}
