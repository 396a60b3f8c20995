"""Storing changes: into the change table, and from there into the current table, in the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from granary.cdc import current_table
from granary.load.append import append
from granary.load.batch_stage import UnitLoad
from granary.load.newest import data_at
from granary.sources.capture import changes_table
from granary.sources.units import Unit
from granary.warehouse.faults import fault_point
from granary.warehouse.ledger import record, record_changes
from granary.warehouse.records import Change, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from granary.cdc.rows import Key
    from granary.sources.spec import Source, Table
    from granary.sources.units import SourceBatch
    from granary.warehouse.writer import LoadTransaction

RESETS = ["truncate", "reset"]
"""Changes after which nothing counts that came before."""


@dataclass(frozen=True)
class Landed:
    """What one run of a table's changes did: changes read and refused, and the load ids of both its tables."""

    changes: int
    refused: int
    load_id: int
    changes_load_id: int


@dataclass(frozen=True)
class Lander:
    """The way of a source's changes into one transaction; `unit` is what the ledger calls the batch."""

    tx: LoadTransaction
    source: Source
    unit: str
    run_id: str

    def land(self, table: Table, source_batch: SourceBatch) -> Landed:
        """Store changes of one table, given as rows of its change table."""
        tx, source = self.tx, self.source
        committed = data_at(Unit(self.unit), pc.max(source_batch.batch.column("cdc_committed_at")).as_py())
        result = append(
            tx, source, changes_table(table), Unit(self.unit), [source_batch], run_id=self.run_id, data_at=committed
        )
        fault_point("cdc-changes")
        target, evolved = current_table.ensure(tx, source, table)
        unit_load = UnitLoad(Unit(self.unit), tx.next_load_ids(1)[0], data_at=committed)
        record_changes(tx.connection, source.name, table.name, unit_load.load_id, evolved)
        if result.rows_loaded:
            batch = source_batch.batch
            unit_load.loaded, unit_load.deleted = current_table.apply(
                tx,
                current_table.changes_target(source, table),
                target,
                result.load_ids[0],
                result.rows_loaded,
                resets=bool(pc.any(pc.is_in(batch.column("cdc_op"), pa.array(RESETS))).as_py()),
                moves=batch.column("cdc_key_before").null_count < batch.num_rows,
            )
        unit_load.read = unit_load.loaded
        status = "loaded" if unit_load.loaded or unit_load.deleted else "unchanged"
        marks = {"run_id": self.run_id, "is_new": status == "loaded"}
        record(tx.connection, [unit_load.audit(source.name, table.name, status, **marks)])
        fault_point("cdc-applied")
        return Landed(result.rows_read, result.rows_quarantined, unit_load.load_id, result.load_ids[0])

    def stored(self, table: Table, keys: Sequence[Key], columns: Sequence[str]) -> Mapping[Key, tuple[str | None, ...]]:
        """Return texts of the current table as this transaction sees it."""
        target, _ = current_table.ensure(self.tx, self.source, table)
        return current_table.stored_texts(self.tx, target, keys, columns)

    def has(self, table: Table) -> bool:
        """Return whether there is a current table."""
        return bool(self.tx.columns(Target(self.source.name, table.name, table.schema, table.key)))

    def lacking(self, table: Table, batches: Iterable[pa.RecordBatch]) -> list[Key]:
        """Return, as text, the keys of the current table that are not among these."""
        target, _ = current_table.ensure(self.tx, self.source, table)
        return current_table.lacking(self.tx, target, batches)

    def schema_change(self, table: Table, load_id: int, change: Change) -> None:
        """Keep a difference in a table's columns at the source."""
        record_changes(self.tx.connection, self.source.name, table.name, load_id, [change])


def differences(known: Mapping[str, str], types: Mapping[str, str]) -> list[Change]:
    """Return how a table's columns at the source differ from before."""
    gone = [Change(name, "missing", f"{known[name]}; null from here on") for name in known if name not in types]
    new = [Change(name, "added", types[name]) for name in types if name not in known]
    retyped = [
        Change(name, "retyped", f"{known[name]} became {types[name]}")
        for name in types
        if known.get(name, types[name]) != types[name]
    ]
    return [*gone, *new, *retyped]
