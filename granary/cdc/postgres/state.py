"""What is remembered of a capture between two commits: positions in the source's log, and its tables as last seen."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import numpy as np

from granary.cdc.postgres.lsn import lsn_number, lsn_text
from granary.cdc.postgres.schema_changes import Shape

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.cdc.pieces import Array


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

    def holds(self, lsn: Array, xids: Array) -> Array:
        """Return the mask of the transactions, by the LSN of their commit and their id, that are in the snapshot."""
        return np.asarray((lsn < self.until) & self.sees(xids))


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
            stored = stored | Snapshot(self.snapshot, until).holds(lsn, xids)
        return np.asarray(stored)

    def copied(self) -> dict[int, Snapshot]:
        """Return the snapshots of tables that were added later, by oid, as long as the stream may still repeat them."""
        found = {
            table.oid: Snapshot(table.snapshot, lsn_number(table.snapshot_until))
            for table in self.tables.values()
            if table.snapshot
        }
        return {oid: seen for oid, seen in found.items() if self.position < seen.until}

    def at(self, lsn: int, as_of: datetime, **more: object) -> State:
        """Return the state further on."""
        return replace(self, lsn=lsn_text(lsn), as_of=as_of.isoformat(), **more)  # type: ignore[arg-type]

    def dump(self) -> str:
        """Return the state as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> State:
        """Return the state that `dump` wrote; of a capture of another kind of log, one that asks for a new copy."""
        values = json.loads(text)
        if "snapshot_until" not in values:
            return cls("snapshot")
        tables = {
            name: TableState(**table | {"shape": Shape.load(table.get("shape", {}))})
            for name, table in values.pop("tables").items()
        }
        return cls(**values, tables=tables)


@dataclass(frozen=True)
class TableState:
    """A captured table as last seen: its oid, the type of each column in the log, and its shape in the catalogue.

    `snapshot` and `snapshot_until` are those of a table that was added to a capture and copied by itself.
    """

    oid: int
    types: Mapping[str, str]
    shape: Shape = field(default_factory=Shape)
    snapshot: str = ""
    snapshot_until: str = "0/0"
