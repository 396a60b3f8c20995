"""More of the sample: its households and stores side by side, its year again and again behind itself.

A copy is the sample with other keys, and a later year the sample with later dates, so every distribution in them is
the real one. A year has 53 weeks here: each weekday stays what it was, no day is played twice, and the six days
between two years, like December 25, are without sales.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from demo.clock import LAST_DAY, NEW_YORK
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator

WEEKS = 53
YEAR = timedelta(weeks=WEEKS)

BY_COPY = {"household_id": 10_000, "store_id": 100_000}
"""What a copy adds to its keys: more than the largest, and a multiple of `history.CYCLE`, so histories are the same."""
BY_YEAR = {"campaign_id": 100, "week": WEEKS}
DATES = frozenset({"start_date", "end_date", "redemption_date"})
INSTANT, BASKET, BASKETS = "transaction_timestamp", "basket_id", 10**11


@dataclass(frozen=True)
class Scale:
    """How often the sample is there: so many copies in each of so many years, and of promotions a share."""

    copies: int = 1
    years: int = 1
    promotions: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what nobody could play back.

        Raises:
            GranaryError: there is no copy, no year or no such share, or a year would end in the future.
        """
        if min(self.copies, self.years) < 1 or not 0 <= self.promotions <= 1:
            raise GranaryError("the sample is scaled by whole numbers, and its promotions by a share from 0 to 1")
        if self.last_day >= date.today():  # noqa: DTZ011 - within a day is near enough
            raise GranaryError(f"{self.years} years of the sample end on {self.last_day}, which is not over")

    @property
    def factor(self) -> int:
        """How many times the rows of the sample there are."""
        return self.copies * self.years

    @property
    def last_day(self) -> date:
        """The last business date."""
        return LAST_DAY + (self.years - 1) * YEAR

    def all_of(self, rows: pa.Table) -> pa.Table:
        """Return the rows of a table, or of a part of it, in every copy and year."""
        return pa.concat_tables(later for _, later in self.by_year(rows))

    def by_year(self, rows: pa.Table) -> Iterator[tuple[int, pa.Table]]:
        """Yield the rows of a table, or of a part of it, in each year with all copies; years count from 0.

        What names no household and no store is the same in every copy, and what has no date, week or campaign in
        every year: products are there once, campaigns once a year.
        """
        names = set(rows.column_names)
        copies = self.copies if names & BY_COPY.keys() else 1
        for year in range(self.years if names & (BY_YEAR.keys() | DATES | {INSTANT}) else 1):
            yield year, pa.concat_tables(self._copy(rows, copy, year) for copy in range(copies))

    def sampled(self, promotions: pa.Table) -> pa.Table:
        """Return the share of the promotions that is played back: all those of a share of the products."""
        if self.promotions == 1:
            return promotions
        # Knuth's multiplicative hash: neighbouring products are of one department.
        hashed = promotions["product_id"].to_numpy().astype(np.uint64) * np.uint64(2654435761) % np.uint64(1 << 32)
        return promotions.filter(pa.array(hashed < self.promotions * (1 << 32)))

    def _copy(self, rows: pa.Table, copy: int, year: int) -> pa.Table:
        for index, name in enumerate(rows.column_names):
            if moved := self._moved(rows[name], name, copy, year):
                rows = rows.set_column(index, name, moved)
        return rows

    def _moved(self, values: pa.ChunkedArray, name: str, copy: int, year: int) -> pa.ChunkedArray | None:
        """Return a column as it is in a copy and year, None if it is the same."""
        if name in DATES:
            return pc.add(values, pa.scalar(year * YEAR)).cast(values.type) if year else None
        if name == INSTANT:
            return _later(values, year * YEAR) if year else None
        if name == BASKET:
            step = (year * self.copies + copy) * BASKETS
        else:
            step = BY_COPY.get(name, 0) * copy + BY_YEAR.get(name, 0) * year
        return pc.add(values, step) if step else None


ONCE = Scale()
"""The sample as it is."""


def _later(instants: pa.ChunkedArray, by: timedelta) -> pa.ChunkedArray:
    """Return UTC instants so many days later at the same time of the day in New York, where the clocks change."""
    zone = str(NEW_YORK)
    local = pc.local_timestamp(instants.cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us", zone)))
    moved = pc.assume_timezone(pc.add(local, pa.scalar(by)), zone, ambiguous="earliest", nonexistent="latest")
    return pc.local_timestamp(moved.cast(pa.timestamp("us", "UTC")))
