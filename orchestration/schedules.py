"""When the jobs run, in the time zone of the stores (`time_zone` in dbt_project.yml)."""

from granary.dagster.schedules import daily_schedule, schedule

SCHEDULES = [
    daily_schedule(
        "daily",
        "30 5 * * *",
        "Every morning at 05:30: what is new in every system, with the days that came late or were corrected.",
    ),
    schedule(
        "weekly_promotions",
        "0 6 * * 1",
        "Mondays at 06:00, when the promotions of the week that begins are known.",
    ),
]
