"""Delta tables, by the `deltalake` package: each change is one entry of the table's log."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.lake.table import FILE_BYTES, PUBLISH, Change, State, explained
from granary.lake.types import same
from granary.readers.tables.place import package
from granary.warehouse.faults import fault_point

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.readers.tables.place import Place


MADE = "Granary's copy of "
LOG = "_delta_log"
ENTRY = re.compile(LOG + r"/(\d{20})\..*(?:json|parquet)")


class DeltaTable:
    """A mart as a Delta table."""

    def __init__(self, place: Place, name: str) -> None:
        """Remember where it is."""
        self._delta = package("deltalake")
        self._place, self.where = place, f"{place.url}/{name}"
        self._options, self._files = place.delta_options(), place.destination(name)

    def state(self) -> State | None:
        """Return what the table's log says."""
        with explained(self._place, self.where):
            table = self._table()
            if table is None:
                return None
            about = table.metadata()
            mart = (about.description or "").removeprefix(MADE)
            mart = mart if mart != about.description else ""
            (partition_by,) = about.partition_columns or (None,)
            return State(f"{about.id}:{table.version()}", mart, pa.schema(table.schema()), partition_by)

    def write(self, change: Change, before: State | None) -> str:
        """Overwrite the partitions that changed, or everything, in one commit."""
        whole = change.whole or before is None
        arguments: dict[str, Any] = {"schema_mode": "overwrite"} if whole else {"predicate": _predicate(change)}
        if before is not None and not whole:
            assert same(before.schema, change.schema)
        if before is None:
            arguments["description"] = f"{MADE}{change.mart}"
        with explained(self._place, self.where):
            self._delta.write_deltalake(
                self._table() or self.where,
                pa.RecordBatchReader.from_batches(change.schema, _batches(change)),
                mode="overwrite",
                partition_by=[change.partition_by] if change.partition_by else None,
                storage_options=self._options or None,
                target_file_size=FILE_BYTES,
                commit_properties=self._delta.CommitProperties(custom_metadata={PUBLISH: str(change.publish_id)}),
                **arguments,
            )
        fault_point("lake-committed")
        after = self.state()
        assert after is not None
        return after.version

    def purge(self) -> int:
        """Delete the files that the present version does not have, and the log before it: it has values of columns."""
        with explained(self._place, self.where):
            table = self._table()
            if table is None:
                return 0
            found = table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True)
            table = self._table()
            table.create_checkpoint()
            for name in self._files.names(LOG):
                number = ENTRY.fullmatch(name)
                if number and int(number[1]) < table.version():
                    self._files.remove(name)
            return len(found)

    def _table(self) -> Any:
        if not self._delta.DeltaTable.is_deltatable(self.where, storage_options=self._options or None):
            return None
        return self._delta.DeltaTable(self.where, storage_options=self._options or None)


def _batches(change: Change) -> Iterator[pa.RecordBatch]:
    for part in change.changed:
        yield from change.read(part)
        fault_point("lake-file-written")
    fault_point("lake-before-commit")


def _predicate(change: Change) -> str:
    """Return the condition on the rows that are replaced, in the SQL of DataFusion."""
    assert change.partition_by is not None
    name = '"' + change.partition_by.replace('"', '""') + '"'
    kind = change.schema.field(change.partition_by).type
    return " or ".join(f"{name} is null" if v is None else f"{name} = {_literal(v, kind)}" for v in change.values())


def _literal(value: Any, kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return str(value).lower()
    return "'" + str(value).replace("'", "''") + "'"
