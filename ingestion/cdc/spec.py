"""What a captured source declares, and what is remembered of a capture between two commits."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from ingestion import validation
from ingestion.cdc.altered import Shape
from ingestion.spec import Column, Table, Unit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ingestion.cdc.pgoutput import Array
    from ingestion.spec import Chunk

STATE = "@capture"
"""The name under which ops.watermarks keeps the state of a source's capture; no table can have it."""

SLOT = re.compile(r"[a-z0-9_]{1,63}")


@dataclass(frozen=True)
class Capture:
    """How a source's tables are captured: `setting` names the value that holds the libpq URI of the source database.

    Every table of the source is captured, from its `location` ("schema.table"). One warehouse, one slot: another
    warehouse that captures the same database needs a slot of another name. A status raises an alarm when the slot
    holds back more than `alarm_bytes` of the source's log, or the copy is older than `alarm_age`.
    """

    setting: str
    slot: str
    publication: str
    alarm_bytes: int = 1 << 30
    alarm_age: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        """Check the names."""
        validation.check(self, "capture", filled=("setting",), positive=("alarm_bytes", "alarm_age"))
        if not SLOT.fullmatch(self.slot):
            raise ValueError(f"slot name {self.slot!r} has other characters than a-z, 0-9 and _")
        if not self.publication or "\0" in self.publication:
            raise ValueError("a publication needs a name")


def lsn_text(lsn: int) -> str:
    """Return a log sequence number as Postgres writes it: 0/16B3748."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def lsn_number(text: str) -> int:
    """Return the bytes that a log sequence number counts."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) | int(low, 16)


@dataclass(frozen=True)
class Snapshot:
    """Which transactions a snapshot of the source has seen (pg_current_snapshot), for those that ended before `until`.

    Every transaction that it has seen had its commit in the log before the LSN `until`, which was read after it.
    """

    text: str
    until: int

    def sees(self, xids: Array) -> Array:
        """Return the mask of the transactions (32-bit ids, as int64) that the snapshot has seen.

        Transaction ids go round: one is before another if it is less than 2^31 behind it.
        """
        low, high, *running = self.text.split(":")
        xmin, xmax = int(low), int(high)
        still = [int(xid) & 0xFFFFFFFF for xid in ":".join(running).split(",") if xid]
        started = _before(xids, xmax) & ~np.isin(xids, still)
        return np.asarray(started | _before(xids, xmin))


def _before(xids: Array, bound: int) -> Array:
    return np.asarray(((xids - bound + (1 << 31)) & 0xFFFFFFFF) < (1 << 31))


@dataclass(frozen=True)
class State:
    """What the warehouse knows of a capture; it moves only with the rows, in their transaction.

    `lsn` is the end of the last commit that is stored; `system` and `timeline` say of which server's log. `as_of` is
    the source's clock when the copy was last known to be complete. `tables` are the oid and the column types of each
    captured table as last seen. In phase "snapshot" the slot is ours to make anew.
    """

    phase: Literal["snapshot", "stream"]
    lsn: str = "0/0"
    system: str = ""
    timeline: str = ""
    snapshot: str = ""
    snapshot_until: str = "0/0"
    as_of: str = ""
    tables: Mapping[str, TableState] = field(default_factory=dict)

    @property
    def position(self) -> int:
        """The LSN as a number."""
        return lsn_number(self.lsn)

    def skip(self, lsn: Array, xids: Array) -> Array:
        """Return which transactions are stored already: before the position, or seen by the initial snapshot."""
        stored = np.asarray(lsn < self.position)
        until = lsn_number(self.snapshot_until)
        if self.snapshot and self.position < until:
            stored = stored | ((lsn < until) & Snapshot(self.snapshot, until).sees(xids))
        return np.asarray(stored)

    def at(self, lsn: int, as_of: datetime, **more: object) -> State:
        """Return the state further on."""
        return replace(self, lsn=lsn_text(lsn), as_of=as_of.isoformat(), **more)  # type: ignore[arg-type]

    def dump(self) -> str:
        """Return the state as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> State:
        """Return the state that `dump` wrote."""
        values = json.loads(text)
        tables = {
            name: TableState(table["oid"], table["types"], Shape.load(table.get("shape", {})))
            for name, table in values.pop("tables").items()
        }
        return cls(**values, tables=tables)


@dataclass(frozen=True)
class TableState:
    """A captured table as last seen: its oid, the type of each column in the log, and its shape in the catalogue."""

    oid: int
    types: Mapping[str, str]
    shape: Shape = field(default_factory=Shape)


CHANGE_COLUMNS = (
    Column(
        "cdc_op",
        pa.string(),
        "insert, update, delete, truncate; snapshot for a row of an initial copy, reset just before its first row.",
        allowed=("insert", "update", "delete", "truncate", "snapshot", "reset"),
    ),
    Column("cdc_lsn", pa.int64(), "LSN of the transaction's commit, in bytes of the log; '0/0'::pg_lsn + it."),
    Column("cdc_seq", pa.int64(), "Place of the change within its transaction, from 1."),
    Column("cdc_xid", pa.int64(), "Transaction at the source."),
    Column("cdc_committed_at", pa.timestamp("us", tz="UTC"), "When the transaction was committed."),
    Column("cdc_key_before", pa.string(), "JSON of the key before the change, where an update changed it."),
)
"""What a change table has beside the columns of its table."""


def changes_table(table: Table) -> Table:
    """Return the contract of a captured table's change table.

    Every column may be null there: a deleted row has nothing but its key, a truncate not even that. What may not be
    null in the table is checked before (`ingestion.cdc.rows`).
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

    def read(self, table: Table, unit: Unit, watermark: str | None) -> Iterator[Chunk]:
        """Yield nothing."""
        return iter(())
