"""When the jobs run, in the time zone that dbt_project.yml sets."""

from granary.dagster.schedules import schedule

SCHEDULES = [
    schedule("everything", "0 6 * * *", "Every morning at 06:00: what is new in every source, and all that follows."),
]
