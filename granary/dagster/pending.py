"""Which business dates a run is about: those that wait to be loaded, and a quiet day; nothing of Dagster."""

from __future__ import annotations

from contextlib import suppress
from datetime import date, datetime, timezone
from typing import TYPE_CHECKING

from granary.dagster.windows import Window, last_closed_date
from granary.load import api
from granary.load.newest import last_date
from granary.sources.discovery import SOURCES
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings


def pending(settings: Settings) -> list[date]:
    """Return the business dates that wait to be loaded, of all systems that deliver by the day.

    A system that cannot be asked now holds up no other: its own load says why.
    """
    waiting: list[date] = []
    for source in SOURCES.values():
        if any(table.is_daily for table in source.tables):
            with suppress(GranaryError, OSError):
                waiting += api.pending_dates(settings, source.name)
    return waiting


def quiet_day(settings: Settings) -> Window:
    """Return the window of a run before the first file ever: the day that closed last, on which nothing came."""
    closed = last_closed_date(datetime.now(timezone.utc))
    day = min(closed, last_date(settings) or closed)
    return day, day
