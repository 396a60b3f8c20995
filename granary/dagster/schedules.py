"""Factories of schedules, in the business's time zone.

They are on where `granary.dagster.automation` says so. Of times that were missed only the last is made up for, by one
run over all days that wait (dagster.yaml).
"""

from collections.abc import Iterator

import dagster as dg

from granary.dagster.automation import SCHEDULES
from granary.dagster.jobs import run_config
from granary.dagster.loader_assets import loaded_dates
from granary.dagster.pending import pending, quiet_day
from granary.dagster.resources import Warehouse
from granary.dagster.windows import last_closed_date, split, window_of_run, window_tag
from granary.warehouse.project import calendar


def daily_schedule(job: str, cron: str, description: str) -> dg.ScheduleDefinition:
    """Return the schedule of a job whose partitions are business dates, with the days that came late or were corrected.

    It asks for one run per stretch of days with files; without any, for one that rebuilds no day: systems that do not
    deliver by the day change on any day, and history that is not kept today is lost.
    """

    @dg.schedule(
        name=job,
        job_name=job,
        cron_schedule=cron,
        execution_timezone=calendar().time_zone,
        default_status=SCHEDULES,
        description=description,
    )
    def ask(context: dg.ScheduleEvaluationContext, warehouse: Warehouse) -> Iterator[dg.RunRequest]:
        settings = warehouse.settings
        closed = last_closed_date(context.scheduled_execution_time)
        windows = split(day for day in set(pending(settings)) if day <= closed)
        rebuild = bool(windows)
        if not rebuild:
            windows = [window_of_run([], loaded_dates(context.instance)) or quiet_day(settings)]
        for first, last in windows:
            yield dg.RunRequest(
                run_key=f"{closed} {first} {last}",
                partition_key=last.isoformat(),
                tags=window_tag((first, last)),
                run_config=run_config(job, rebuild=rebuild),
            )

    return ask


def schedule(job: str, cron: str, description: str) -> dg.ScheduleDefinition:
    """Return the schedule of a job without partitions."""
    return dg.ScheduleDefinition(
        name=job,
        job_name=job,
        cron_schedule=cron,
        execution_timezone=calendar().time_zone,
        default_status=SCHEDULES,
        description=description,
    )
