"""How new the data of a load is: the moment up to which its source had told, whenever it was loaded."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from granary.sources.config import setting
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import calendar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from granary.sources.units import Unit
    from granary.warehouse.settings import Settings

LAST_DATE = "GRANARY_LAST_DATE"
END_OF_TIME = 253_402_300_800.0
"""The year 10,000, in seconds since 1970. A sender that counts in milliseconds is beyond it."""


def data_at(unit: Unit, newest: object = None) -> datetime | None:
    """Return the newest moment of a unit: of its cursor's newest value, else the end of its business date.

    A cursor that is neither an instant nor a date says nothing of time; an instant without a zone is taken for UTC.
    """
    if isinstance(newest, datetime):
        return newest if newest.tzinfo else newest.replace(tzinfo=timezone.utc)
    day = newest if isinstance(newest, date) else unit.date
    return None if day is None else datetime.combine(day + timedelta(days=1), time(), zone())


def sent_at(seconds: Iterable[float]) -> datetime | None:
    """Return when the last of some messages was sent (seconds since 1970; what is no time of ours is unknown)."""
    last = max((one for one in seconds if 0 < one < END_OF_TIME), default=0.0)
    return datetime.fromtimestamp(last, timezone.utc) if last else None


def last_date(settings: Settings) -> date | None:
    """Return the last business date that there will ever be, GRANARY_LAST_DATE, which only a finished history has.

    Without it, the days from the end of a history that is played back until today would look as if they were missing.
    """
    try:
        return date.fromisoformat(setting(settings, LAST_DATE))
    except GranaryError:
        return None


def zone() -> tzinfo:
    """Return the project's time zone."""
    try:
        return ZoneInfo(calendar().time_zone)
    except GranaryError:  # a project without a calendar
        return timezone.utc
