"""Bad loaders, which the harness must find out: each breaks exactly-once in a way that people really build."""

from __future__ import annotations

from dataclasses import replace
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.deliver import records
from granary.load import table_load
from granary.warehouse.binary_copy import copy_into
from granary.warehouse.connection import connect
from granary.warehouse.faults import fault_point
from granary.warehouse.writer import LoadTransaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TORN = "torn"
"""The point between the two commits of a bad loader."""


def rows_first() -> None:
    """Commit the rows, then the ledger: a loader that dies in between loads them again."""
    record: Callable[..., None] = table_load.record

    def torn(connection: Any, audits: Any) -> None:
        connection.commit()
        fault_point(TORN)
        record(connection, audits)

    table_load.record = torn


def ledger_first() -> None:
    """Commit the ledger, then the rows: a loader that dies in between never loads them."""
    late: list[tuple[Any, list[pa.RecordBatch]]] = []
    leave = LoadTransaction.__exit__

    def keep(self: LoadTransaction, target: Any, batches: Iterable[pa.RecordBatch]) -> int:
        late.append((target, list(batches)))
        return sum(batch.num_rows for batch in late[-1][1])

    def torn(self: LoadTransaction, kind: Any, error: Any, trace: Any) -> None:
        leave(self, kind, error, trace)
        if kind is not None:
            late.clear()
        if late:
            fault_point(TORN)
        for target, rows in late:
            with connect(settings, role="loader") as connection:
                copy_into(connection, target.sql_name, rows)
                connection.commit()
        late.clear()

    begin = LoadTransaction.__init__
    settings: Any = None

    def remember(self: LoadTransaction, where: Any, *rest: Any) -> None:
        nonlocal settings
        settings = where
        begin(self, where, *rest)

    LoadTransaction.__init__ = remember  # type: ignore[method-assign]
    LoadTransaction.__exit__ = torn  # type: ignore[method-assign]
    LoadTransaction.copy = keep  # type: ignore[method-assign]


def no_lock() -> None:
    """Take no lock: two loaders that begin at once both find the same units new."""
    begin = LoadTransaction.__init__

    def unlocked(self: LoadTransaction, settings: Any, source: str, connection: Any = None) -> None:
        begin(self, settings, source, connection)
        self.connection.rollback()

    LoadTransaction.__init__ = unlocked  # type: ignore[method-assign]


def new_ids() -> None:
    """Call a batch otherwise each time that it is sent: no target knows it again."""
    found = records.batch

    def renamed(*arguments: Any) -> records.Batch:
        return replace(found(*arguments), id=token_hex(16), status="waiting")

    records.batch = renamed
