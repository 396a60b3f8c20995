"""How old each table's data is: one definition for dbt, Dagster, `granary status` and the metrics.

The definition is the view `ops.freshness` (migrations/functions.sql): when something new was loaded (a load that looked
and found nothing does not count), and how new the newest data is. What a table may wait is its contract's `freshness`;
dbt's YAML repeats it (granary/scaffold/declared.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from granary.load.days_off import days_off
from granary.load.newest import last_date
from granary.sources.discovery import SOURCES
from granary.warehouse.connection import connect, query

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

DAY = timedelta(days=1)
FRESHNESS = "select source, table_name, fresh_at, now() - fresh_at, data_at, now() - data_at from ops.freshness"


@dataclass(frozen=True)
class Freshness:
    """When a table's source last had something new, how new that data was, and how old both may be by its contract.

    On a public holiday nothing has to come: each makes what is `allowed` a day longer. `data_at` and `data_age` are
    None where nothing says when the data happened, and where no more comes: in a history that has ended
    (GRANARY_LAST_DATE).
    """

    source: str
    table: str
    fresh_at: datetime
    age: timedelta
    allowed: timedelta
    data_at: datetime | None = None
    data_age: timedelta | None = None

    @property
    def is_silent(self) -> bool:
        """Whether nothing new has come for longer than the contract allows."""
        return self.age > self.allowed + rest(self.fresh_at, self.age)

    @property
    def is_late(self) -> bool:
        """Whether the source has been silent for too long, or what it brings is too old."""
        if self.is_silent or self.data_at is None or self.data_age is None:
            return self.is_silent
        return self.data_age > self.allowed + rest(self.data_at, self.data_age)

    def __str__(self) -> str:
        """One clause."""
        what = f"nothing new for {_span(self.age)} (since {self.fresh_at:%Y-%m-%d %H:%M})"
        if self.data_at and self.data_age and not self.is_silent:
            what = f"its newest data are {_span(self.data_age)} old (of {self.data_at:%Y-%m-%d %H:%M})"
        return f"{self.source}.{self.table}: {what}, and its contract allows {_span(self.allowed)}"


def rest(since: datetime, age: timedelta) -> timedelta:
    """Return for how long nothing had to come in an age: a day for each public holiday."""
    if age < DAY:
        return timedelta(0)
    return DAY * days_off().between(since, since + age)


def freshness(settings: Settings, source: str | None = None, table: str | None = None) -> list[Freshness]:
    """Return the freshness of each table that was loaded at least once, in the order of the specs."""
    with connect(settings, role="loader") as connection:
        found = {(name, of): ages for name, of, *ages in query(connection, FRESHNESS)}
    is_over = last_date(settings) is not None
    return [
        Freshness(spec.name, one.name, at, age, one.freshness, *((None, None) if is_over else newest))
        for spec in SOURCES.values()
        for one in spec.tables
        if (spec.name, one.name) in found and source in (None, spec.name) and table in (None, one.name)
        for at, age, *newest in (found[spec.name, one.name],)
    ]


def _span(length: timedelta) -> str:
    hours = length.total_seconds() / 3600
    return f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:.0f} days"  # noqa: PLR2004 - three days
