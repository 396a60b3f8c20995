"""Iceberg tables, by `pyiceberg`: in a REST catalogue, or in a folder or bucket as Hadoop's tables are.

Each change is one snapshot. A column keeps its id through every change, so readers of earlier snapshots stay right.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.lake.folder_catalog import FolderCatalog
from granary.lake.table import FILE_BYTES, MARK, PUBLISH, Change, State, explained
from granary.lake.types import normal, same
from granary.readers.tables.place import package
from granary.tiering.parquet_file import CHUNK_BYTES, chunks
from granary.warehouse.faults import fault_point

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.readers.tables.place import Place

ALL = 1 << 62


class IcebergTable:
    """A mart as an Iceberg table."""

    def __init__(self, place: Place, name: str) -> None:
        """Remember where it is; a catalogue is asked for its settings."""
        package("pyiceberg")
        self._place, self._name = place, (place.namespace, name)
        options = {**place.iceberg_options(), "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"}
        if place.kind == "catalogue":
            self.where = f"{place.url}, table {'.'.join(self._name)}"
            with explained(place, place.url):
                self._catalog = package("pyiceberg.catalog").load_catalog("granary", type="rest", **options)
        else:
            self.where = f"{place.url}/{name}"
            self._catalog = FolderCatalog(self.where, place.destination(name, "metadata"), options)

    def state(self) -> State | None:
        """Return what the table's metadata say."""
        with explained(self._place, self.where):
            table = self._table()
            if table is None:
                return None
            named = [table.schema().find_column_name(one.source_id) for one in table.spec().fields]
            kinds = package("pyiceberg.io.pyarrow").schema_to_pyarrow(table.schema(), include_field_ids=False)
            schema = pa.schema([pa.field(one.name, normal(one.type), one.nullable) for one in kinds])
            snapshot = table.current_snapshot()
            version = f"{table.metadata.table_uuid}:{snapshot.snapshot_id if snapshot else 0}"
            return State(version, table.properties.get(MARK, ""), schema, named[0] if named else None)

    def write(self, change: Change, before: State | None) -> str:
        """Make one snapshot in which the files of what changed replace those that were there."""
        with explained(self._place, self.where):
            table = self._table() or self._create(change)
            io = package("pyiceberg.io.pyarrow")
            with table.transaction() as tx:
                if before is not None and not same(before.schema, change.schema):
                    _evolve(tx, before.schema, change.schema)
                snapshot = tx.update_snapshot(snapshot_properties={PUBLISH: str(change.publish_id)})
                with snapshot.overwrite() as producer:
                    for task in _replaced(table, change):
                        producer.delete_data_file(task.file)
                    for part in change.changed:
                        for chunk in chunks(change.read(part), ALL, CHUNK_BYTES):
                            for file in io._dataframe_to_data_files(tx.table_metadata, chunk, table.io):
                                producer.append_data_file(file)
                        fault_point("lake-file-written")
                fault_point("lake-before-commit")
        fault_point("lake-committed")
        after = self.state()
        assert after is not None
        return after.version

    def purge(self) -> int:
        """Forget all snapshots but the present one, and delete every file that it does not need."""
        with explained(self._place, self.where):
            table = self._table()
            if table is None or table.current_snapshot() is None:
                return 0
            current = table.current_snapshot().snapshot_id
            earlier = [one.snapshot_id for one in table.metadata.snapshots if one.snapshot_id != current]
            if earlier:
                table.maintenance.expire_snapshots().by_ids(earlier).commit()
                table = self._table()
            needed = {path.removeprefix(table.location()).lstrip("/") for path in _files(table)}
            files = self._place.at(table.location())
            stray = [name for name in files.names("") if name.endswith((".parquet", ".avro")) and name not in needed]
            for name in stray:
                files.remove(name)
            return len(stray)

    def _table(self) -> Any:
        missing = package("pyiceberg.exceptions").NoSuchTableError
        try:
            return self._catalog.load_table(self._name)
        except missing:
            return None

    def _create(self, change: Change) -> Any:
        """Make an empty table. Where the catalogue is a server, it sees this before the first rows."""
        schema = _numbered(change.schema)
        partitioning, transforms = package("pyiceberg.partitioning"), package("pyiceberg.transforms")
        spec = partitioning.UNPARTITIONED_PARTITION_SPEC
        if change.partition_by:
            source = schema.find_field(change.partition_by).field_id
            field = partitioning.PartitionField(source, 1000, transforms.IdentityTransform(), change.partition_by)
            spec = partitioning.PartitionSpec(field)
        self._catalog.create_namespace_if_not_exists(self._name[0])
        return self._catalog.create_table(
            self._name,
            schema,
            partition_spec=spec,
            properties={
                MARK: change.mart,
                "format-version": "2",
                "write.target-file-size-bytes": str(FILE_BYTES),
                "write.parquet.compression-codec": "zstd",
            },
        )


def _numbered(schema: pa.Schema) -> Any:
    """Return an Iceberg schema with ids of its own."""
    io = package("pyiceberg.io.pyarrow")
    without = io._pyarrow_to_schema_without_ids(schema)
    return package("pyiceberg.schema").assign_fresh_schema_ids(without)


def _evolve(tx: Any, before: pa.Schema, after: pa.Schema) -> None:
    """Give the table the columns that the mart has now; `types.check_change` has seen that it can."""
    with tx.update_schema(allow_incompatible_changes=True) as update:
        for name in before.names:
            if name not in after.names:
                update.delete_column((name,))
        wanted = _numbered(after)
        for field in wanted.fields:
            if field.name not in before.names:
                update.add_column((field.name,), field.field_type)
            elif normal(before.field(field.name).type) != normal(after.field(field.name).type):
                update.update_column((field.name,), field_type=field.field_type)


def _replaced(table: Any, change: Change) -> Iterator[Any]:
    """Yield the files that a change takes the place of."""
    if table.current_snapshot() is None:
        return
    scan = table.scan()
    if not change.whole:
        expressions = package("pyiceberg.expressions")
        assert change.partition_by is not None
        name = change.partition_by
        each = [
            expressions.IsNull(name) if value is None else expressions.EqualTo(name, value) for value in change.values()
        ]
        scan = table.scan(row_filter=reduce(expressions.Or, each))
    yield from scan.plan_files()


def _files(table: Any) -> set[str]:
    """Return every file that some snapshot of the table needs."""
    found = set()
    for snapshot in table.metadata.snapshots:
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(table.io):
            found.add(manifest.manifest_path)
            found |= {entry.data_file.file_path for entry in manifest.fetch_manifest_entry(table.io)}
    return found
