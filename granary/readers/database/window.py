"""What of a table is to be read: from a cursor's start on, and which range of its key. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pyarrow as pa

from granary.warehouse.errors import GranaryError
from granary.warehouse.project import is_time_zone

if TYPE_CHECKING:
    from granary.sources.spec import Column, Table

Start = int | date | datetime
RANGES_PER_READER = 8
"""Keys are seldom spread evenly; a reader that is done with its range takes the next one."""
CLOCK_STEP = timedelta(hours=1)
"""How far clocks are set back in autumn: local times repeat within it."""


@dataclass(frozen=True)
class Part:
    """A part of a table: from `start` of the cursor on, and keys from `low` to below `high`; None is without an end."""

    cursor: str | None = None
    start: Start | None = None
    key: str | None = None
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True)
class Overlap:
    """How much before the watermark is read again: a time for instants and dates, a number for integers."""

    time: timedelta = timedelta(0)
    number: int = 0


def start_of(table: Table, watermark: str | None, overlap: Overlap) -> Start | None:
    """Return where to begin, or None for everything.

    A replacing load needs every row, whatever the watermark.

    Raises:
        GranaryError: the cursor is of a type that cannot be one, or the watermark is none of its values.
    """
    if table.cursor is None or table.disposition not in ("merge", "append"):
        return None
    t, kind = pa.types, table.column(table.cursor).type
    if not (t.is_integer(kind) or t.is_date(kind) or t.is_timestamp(kind)):
        raise GranaryError(
            f"{table.cursor} is {kind}, which is not a cursor", table.location, "use a time, a date or an integer"
        )
    if watermark is None:
        return None
    try:
        if t.is_integer(kind):
            return int(watermark) - overlap.number
        if t.is_date(kind):
            # A part of a day is a day: rows carry no time of day.
            return date.fromisoformat(watermark) - timedelta(days=-(-overlap.time // timedelta(days=1)))
        return datetime.fromisoformat(watermark) - overlap.time
    except ValueError:
        raise GranaryError(
            f"the watermark {watermark[:40]!r} is not a valid {kind}", table.location, "load it with --full-refresh"
        ) from None
    except OverflowError:
        return None  # the overlap reaches back beyond the calendar


def check_zone(zone: str) -> None:
    """Check the name of a time zone.

    Raises:
        ValueError: this machine knows none of this name.
    """
    if not is_time_zone(zone):
        raise ValueError(f"DatabaseReader: zone is a time zone's name, such as 'Europe/Zurich', not {zone!r}")


def wall_time(start: Start | None, zone: str) -> Start | None:
    """Return an instant as the local time of a zone, early enough for an hour that its clocks repeat."""
    if not isinstance(start, datetime) or start.tzinfo is None:
        return start
    local = start.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    return local if zone == "UTC" else local - CLOCK_STEP


def as_utc(start: Start | None) -> Start | None:
    """Return an instant as UTC without a zone, as drivers that know no zones take it."""
    if isinstance(start, datetime) and start.tzinfo:
        return start.astimezone(timezone.utc).replace(tzinfo=None)
    return start


def origin(column: Column, names: tuple[str, ...]) -> str | None:
    """Return the name under which the source has a column of the contract."""
    return next((name for name in (column.name, *column.aliases) if name in names), None)


def splittable(table: Table) -> bool:
    """Return whether the table's key is one integer, by which it can be read in ranges."""
    return len(table.key) == 1 and pa.types.is_integer(table.column(table.key[0]).type)


def ranges(key: str, extent: tuple[int, int] | None, readers: int) -> list[Part]:
    """Split a table by its key into parts that together are exactly the table.

    The first part has no lower end and the last no upper one, so a key beyond the extent is in one of them; a null
    key is in the first.
    """
    if extent is None or readers == 1:
        return [Part()]
    low, high = extent
    number = max(1, min(readers * RANGES_PER_READER, high - low + 1))
    edges: list[int | None] = [None, *(low + (high - low + 1) * n // number for n in range(1, number)), None]
    return [Part(key=key, low=a, high=b) for a, b in pairwise(edges)]
