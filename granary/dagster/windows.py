"""Business dates and partition keys: pure functions, no clock, no database.

A business date is a day in the business's time zone (the var `time_zone`). Its partition key is the ISO date, so a
window of dates
needs no arithmetic with hours: the days on which daylight saving time begins and ends, which last 23 and 25 hours,
are days like all others here. Windows are inclusive at both ends, as the loaders and the dbt vars want them.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from granary.warehouse.project import calendar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WINDOW_TAG = "granary/window"
"""Run tag of a window of several days, as an ISO 8601 interval, beside the partition tag of its last day.

Dagster's own pair of range tags is read too (a backfill from the UI sets it), but not written: Dagster 1.13 then plans
every asset and check of the run once per day, 365 times 300 rows for a year (200 s), and never closes those of assets
without partitions.
"""

Window = tuple[date, date]
"""The first and the last business date, both included."""


def window_of_keys(first: str, last: str | None = None) -> Window:
    """Return the window of a partition key, or of a range of them.

    Raises:
        ValueError: a key is not an ISO date, or the range ends before it starts.
    """
    window = (date.fromisoformat(first), date.fromisoformat(last or first))
    if window[1] < window[0]:
        raise ValueError(f"the range ends ({window[1]}) before it starts ({window[0]})")
    return window


def window_of_tags(tags: Mapping[str, str]) -> Window | None:
    """Return the window of a run by its tags: several days, one partition, or None for a run without partitions."""
    if WINDOW_TAG in tags:
        return window_of_keys(*tags[WINDOW_TAG].split("/"))
    if "dagster/partition" in tags:
        return window_of_keys(tags["dagster/partition"])
    if "dagster/asset_partition_range_start" in tags:
        return window_of_keys(tags["dagster/asset_partition_range_start"], tags["dagster/asset_partition_range_end"])
    return None


def window_tag(window: Window) -> dict[str, str]:
    """Return the run tag for a window; the run's partition is the window's last day."""
    return {WINDOW_TAG: f"{window[0].isoformat()}/{window[1].isoformat()}"}


def days(window: Window) -> list[date]:
    """Return every date of a window, in order."""
    return [window[0] + timedelta(days=n) for n in range((window[1] - window[0]).days + 1)]


def dbt_vars(window: Window | None) -> dict[str, str]:
    """Return the dbt vars that make the facts overwrite a window; none for no window."""
    return {} if window is None else {"from_date": window[0].isoformat(), "to_date": window[1].isoformat()}


def window_of_run(waiting: Iterable[date], loaded: Iterable[date], *, full_refresh: bool = False) -> Window | None:
    """Return the window of a run for which nobody named one; None if there was never a file.

    It is the smallest that holds all dates still to be loaded; days in between that are loaded already cost nothing,
    since their files are found unchanged. If nothing waits, it is the newest day; a full refresh covers every day.
    """
    new, old = sorted(waiting), sorted(loaded)
    if full_refresh:
        new = sorted([*new, *old])
    if new:
        return new[0], new[-1]
    return (old[-1], old[-1]) if old else None


def last_closed_date(now: datetime) -> date:
    """Return the last business date that is over everywhere in the business's time zone.

    Raises:
        ValueError: `now` has no time zone.
    """
    if now.tzinfo is None:
        raise ValueError("a moment needs a time zone")
    return now.astimezone(ZoneInfo(calendar().time_zone)).date() - timedelta(days=1)


def split(dates: Iterable[date]) -> list[Window]:
    """Return the runs of consecutive dates, in order: each can be one single-run backfill."""
    windows: list[Window] = []
    for day in sorted(set(dates)):
        if windows and day - windows[-1][1] == timedelta(days=1):
            windows[-1] = (windows[-1][0], day)
        else:
            windows.append((day, day))
    return windows
