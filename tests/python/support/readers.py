"""Analysts who query the marts without pause, and what they saw."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from granary.warehouse.connection import connect, execute, query

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from granary.warehouse.settings import Settings

LONGEST_WAIT = "250ms"
"""What an analyst may wait for a lock; a query that would wait longer fails."""
TOTALS = """
    select
        (select count(*) from marts.fct_sales),
        (select sum(sales_value) from marts.fct_sales),
        (select sum(line_count) from marts.fct_baskets),
        (select sum(sales_value) from marts.fct_baskets)
"""
"""The two facts in one statement: they agree in lines and cents, whatever day it is."""
KNOWN = """
    select
        count(*),
        sum(sales.sales_value),
        count(products.product_key),
        sum(sales.sales_value) filter (where households.household_key is not null)
    from marts.fct_sales as sales
    left join marts.dim_product as products on sales.product_key = products.product_key
    left join marts.dim_household as households on sales.household_key = households.household_key
"""
"""A fact with its dimensions: every line has its product's and its household's version."""


@dataclass
class Readers:
    """`count` connections with the role analyst, each asking these queries in turn until the block ends.

    Each query returns lines, sales, and both again from elsewhere; a row whose halves differ is a mixed state.
    """

    settings: Settings
    queries: Sequence[str] = (TOTALS, KNOWN)
    count: int = 8
    failures: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    states: set[tuple[Any, ...]] = field(default_factory=set)
    rounds: list[int] = field(default_factory=list)

    def __enter__(self) -> Readers:
        """Begin to read."""
        self._ended = threading.Event()
        self.rounds = [0] * self.count
        self._threads = [threading.Thread(target=self._read, args=(n,)) for n in range(self.count)]
        for thread in self._threads:
            thread.start()
        self.everybody_reads()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, when each has answered its last query."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def everybody_reads(self) -> None:
        """Wait until each has asked every query once more, from the beginning to the end."""
        seen = list(self.rounds)
        while any(now < before + 2 for now, before in zip(self.rounds, seen, strict=True)):
            if not all(thread.is_alive() for thread in self._threads):
                raise AssertionError(self.failures or "a reader has ended")
            self._ended.wait(0.005)

    @property
    def mixed(self) -> set[tuple[Any, ...]]:
        """What was seen that never was true: halves that differ."""
        return {state for state in self.states if state[: len(state) // 2] != state[len(state) // 2 :]}

    @property
    def p95(self) -> float:
        """The seconds that 19 of 20 queries did not exceed."""
        return sorted(self.seconds)[int(len(self.seconds) * 0.95)]

    def _read(self, number: int) -> None:
        connection = connect(self.settings, role="analyst", autocommit=True)
        try:
            execute(connection, f"set lock_timeout = '{LONGEST_WAIT}'")
            while not self._ended.is_set():
                for sql in self.queries:
                    began = time.perf_counter()
                    try:
                        self.states.update(tuple(map(str, row)) for row in query(connection, sql))
                    except Exception as error:
                        self.failures.append(" ".join(str(error).split()))
                    self.seconds.append(time.perf_counter() - began)
                self.rounds[number] += 1
        finally:
            connection.close()
