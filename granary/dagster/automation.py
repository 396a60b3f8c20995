"""What is loaded and built by itself, and the one switch for it: GRANARY_SCHEDULES=running, as `granary serve` sets it.

A clone on a laptop does not start to load by itself: without the switch, schedules and the sensors that start runs are
off until somebody turns them on in the UI.
"""

import os
from datetime import timedelta

import dagster as dg

from granary.sources.spec import DAY, HOUR, MINUTE
from granary.warehouse.project import calendar

IS_ON = os.environ.get("GRANARY_SCHEDULES") == "running"
SCHEDULES = dg.DefaultScheduleStatus.RUNNING if IS_ON else dg.DefaultScheduleStatus.STOPPED
SENSORS = dg.DefaultSensorStatus.RUNNING if IS_ON else dg.DefaultSensorStatus.STOPPED
POLL_SECONDS = 60
"""How often is looked whether a table is due."""


def polled(every: timedelta) -> dg.AutomationCondition[dg.AssetKey]:
    """Return the condition under which a table is polled: its time has come, and nobody is loading it.

    However many times were missed, while the machine was off or a load took long, it is loaded once.
    """
    tick = dg.AutomationCondition.cron_tick_passed(cron(every), calendar().time_zone)
    handled = dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
    return (tick.since(handled) & ~dg.AutomationCondition.in_progress()).with_label("polled")


def cron(every: timedelta) -> str:
    """Return how cron says a part of an hour or of a day."""
    if every < HOUR:
        return f"*/{every // MINUTE} * * * *"
    return f"0 */{every // HOUR} * * *" if every < DAY else "0 0 * * *"
