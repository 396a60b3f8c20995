"""When the jobs run, in the time zone of the stores.

They are stopped until somebody turns them on in the UI, so that a clone on a laptop does not start to load by itself; a
deployment says GRANARY_SCHEDULES=running.
"""

import os
from collections.abc import Iterator

import dagster as dg

from orchestration.defs.resources import Warehouse
from orchestration.run import loaded_dates, pending, quiet_day, run_config
from orchestration.windows import TIME_ZONE, last_closed_date, split, window_of_run, window_tag

STATUS = (
    dg.DefaultScheduleStatus.RUNNING
    if os.environ.get("GRANARY_SCHEDULES") == "running"
    else dg.DefaultScheduleStatus.STOPPED
)


@dg.schedule(
    name="daily",
    job_name="daily",
    cron_schedule="30 5 * * *",
    execution_timezone=TIME_ZONE,
    default_status=STATUS,
    description="Every morning at 05:30: what is new in every system, with the days that came late or were corrected.",
)
def daily_schedule(context: dg.ScheduleEvaluationContext, warehouse: Warehouse) -> Iterator[dg.RunRequest]:
    """Ask for one run per stretch of days with files; without any, for one that rebuilds no day.

    Systems that do not deliver by the day change on any day, and history that is not kept today is lost.
    """
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
            run_config=run_config("daily", rebuild=rebuild),
        )


@dg.schedule(
    name="weekly_promotions",
    job_name="weekly_promotions",
    cron_schedule="0 6 * * 1",
    execution_timezone=TIME_ZONE,
    default_status=STATUS,
    description="Mondays at 06:00, when the promotions of the week that begins are known.",
)
def weekly_promotions_schedule() -> dg.RunRequest:
    """Ask for one run."""
    return dg.RunRequest()


SCHEDULES = [daily_schedule, weekly_promotions_schedule]
