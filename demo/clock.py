"""The retailer's clock and calendar: the last business date that is closed, in New York.

Pure functions but for `read` and `write`, which keep the date in one small file.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from demo.files import put
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from pathlib import Path

NEW_YORK = ZoneInfo("America/New_York")
OPENING = date(2016, 12, 31)
LAST_DAY = date(2017, 12, 31)
_WEEK_ONE_MONDAY = date(2016, 12, 26)


def starts_at(day: date) -> datetime:
    """Return the instant (UTC) at which a business date begins: midnight in New York.

    Midnight is never skipped or repeated there; the clocks change at two in the morning.
    """
    return datetime.combine(day, time(), NEW_YORK).astimezone(timezone.utc)


def ends_at(day: date) -> datetime:
    """Return the instant (UTC) at which a business date is over; it belongs to the next one."""
    return starts_at(day + timedelta(days=1))


def days_between(after: date, until: date) -> list[date]:
    """Return the dates later than `after`, up to and including `until`."""
    return [after + timedelta(days=n) for n in range(1, (until - after).days + 1)]


def first_day(week: int) -> date:
    """Return the first business date of a week, counted from 2017: 1 January for week 1, else its Monday."""
    return max(date(2017, 1, 1), _WEEK_ONE_MONDAY + timedelta(weeks=week - 1))


def weeks_between(after: date, until: date) -> list[int]:
    """Return the weeks whose first day is later than `after` and not later than `until`."""
    last = (until - _WEEK_ONE_MONDAY).days // 7 + 1
    return [week for week in range(1, last + 1) if after < first_day(week) <= until]


def read(path: Path) -> date | None:
    """Return the date in a clock file, or None if there is no such file.

    Raises:
        GranaryError: the file holds no date.
    """
    try:
        return date.fromisoformat(path.read_text().strip())
    except FileNotFoundError:
        return None
    except ValueError:
        raise GranaryError(
            "the sample retailer's clock holds no date", str(path), "remove the folder and run `make demo`"
        ) from None


def write(path: Path, day: date) -> None:
    """Set the clock; a reader sees the old date or the new one."""
    put(path, f"{day}\n".encode())
