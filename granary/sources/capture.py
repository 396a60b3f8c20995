"""The change table of a captured table: its contract, and the reader of a source whose tables are captured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from granary.sources.spec import Column, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.sources.units import SourceBatch, Unit

CHANGE_COLUMNS = (
    Column(
        "cdc_op",
        pa.string(),
        "insert, update, delete, truncate; snapshot for a row of an initial copy, reset just before its first row.",
        allowed=("insert", "update", "delete", "truncate", "snapshot", "reset"),
    ),
    Column(
        "cdc_lsn",
        pa.int64(),
        "LSN of the transaction's commit, in bytes of Postgres' log: '0/0'::pg_lsn + it; of a binary log its number,"
        " counted from the first copy.",
    ),
    Column("cdc_seq", pa.int64(), "Place of the change within its transaction, from 1."),
    Column("cdc_xid", pa.int64(), "Transaction at the source; of a binary log the last number of its GTID."),
    Column("cdc_committed_at", pa.timestamp("us", tz="UTC"), "When the transaction was committed."),
    Column("cdc_key_before", pa.string(), "JSON of the key before the change, where an update changed it."),
)
"""What a change table has beside the columns of its table."""


def changes_table(table: Table) -> Table:
    """Return the contract of a captured table's change table.

    Every column may be null there: a deleted row has nothing but its key, a truncate not even that. What may not be
    null in the table is checked before (`granary.cdc.rows`).
    """
    return Table(
        name=f"{table.name}_changes",
        description=f"Every change of {table.name}, in the order of _load_id and _row. {table.description}",
        location=table.location,
        columns=(*CHANGE_COLUMNS, *(replace(column, nullable=True, missing="null") for column in table.columns)),
        disposition="append",
        freshness=table.freshness,
        new_columns=table.new_columns,
        max_new_columns=table.max_new_columns,
        contract=table.contract,
    )


class CapturedReader:
    """The reader of a source whose tables are captured: a load of them has nothing to do."""

    def units(self, table: Table, watermark: str | None) -> list[Unit]:
        """Return nothing."""
        return []

    def read(self, table: Table, unit: Unit, watermark: str | None) -> Iterator[SourceBatch]:
        """Yield nothing."""
        return iter(())
