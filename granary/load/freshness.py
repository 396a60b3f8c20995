"""How long ago each table's source last had something new: one definition for dbt, Dagster and `granary status`.

The definition is the view `ops.freshness` (migrations/functions.sql): a load that looked and found nothing does
not count. What a table may wait is its contract's `freshness`; dbt's YAML repeats it (granary/scaffold/declared.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from granary.sources.discovery import SOURCES
from granary.warehouse.connection import connect, query

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

FRESHNESS = "select source, table_name, fresh_at, now() - fresh_at from ops.freshness"


@dataclass(frozen=True)
class Freshness:
    """When a table's source last had something new, how long ago that is, and how long its contract allows."""

    source: str
    table: str
    fresh_at: datetime
    age: timedelta
    allowed: timedelta

    @property
    def is_late(self) -> bool:
        """Whether the source has been silent for longer than its contract allows."""
        return self.age > self.allowed

    def __str__(self) -> str:
        """One clause."""
        return (
            f"{self.source}.{self.table}: nothing new for {_span(self.age)} (since {self.fresh_at:%Y-%m-%d %H:%M}),"
            f" and its contract allows {_span(self.allowed)}"
        )


def freshness(settings: Settings, source: str | None = None, table: str | None = None) -> list[Freshness]:
    """Return the freshness of each table that was loaded at least once, in the order of the specs."""
    with connect(settings, role="loader") as connection:
        found = {(name, of): (at, age) for name, of, at, age in query(connection, FRESHNESS)}
    return [
        Freshness(spec.name, one.name, *found[spec.name, one.name], one.freshness)
        for spec in SOURCES.values()
        for one in spec.tables
        if (spec.name, one.name) in found and source in (None, spec.name) and table in (None, one.name)
    ]


def _span(length: timedelta) -> str:
    hours = length.total_seconds() / 3600
    return f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:.0f} days"  # noqa: PLR2004 - three days
