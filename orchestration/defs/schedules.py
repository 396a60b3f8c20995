"""When the jobs run, in the time zone of the stores.

They are stopped until somebody turns them on in the UI, so that a clone on a laptop does not start to load by itself; a
deployment says GRANARY_SCHEDULES=running.
"""

import os
from collections.abc import Iterator

import dagster as dg

from ingestion.load import pending_dates
from orchestration.defs.resources import Warehouse
from orchestration.windows import TIME_ZONE, last_closed_date, split, window_tag

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
    description="Every morning at 05:30: the day that closed, and earlier days that came late or were corrected.",
)
def daily_schedule(
    context: dg.ScheduleEvaluationContext, warehouse: Warehouse
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Ask for one run per stretch of days with news."""
    closed = last_closed_date(context.scheduled_execution_time)
    dates = {day for source in ("pos", "events") for day in pending_dates(warehouse.settings, source)}
    windows = split(day for day in dates if day <= closed)
    if not windows:
        yield dg.SkipReason(f"no file of {closed} or of an earlier day is waiting")
    for first, last in windows:
        yield dg.RunRequest(
            run_key=f"{closed} {first} {last}", partition_key=last.isoformat(), tags=window_tag((first, last))
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
