"""Iceberg and Delta tables as sources: a data file of the table as it is now is a unit, and is never changed.

What was appended are files that the ledger does not know; only these are read. What was overwritten, deleted or
compacted are files that the table has no more, and new ones: their rows go and come in the same transaction. So the raw
table is the table at one snapshot, whatever happened between two loads, and earlier snapshots may expire.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pyarrow as pa

from granary.readers.files.columnar import source_batch
from granary.readers.tables.place import Place, package, parse
from granary.sources import validation
from granary.sources.guarantees import Guarantees
from granary.sources.units import SourceBatch, Unit
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from granary.sources.spec import Table

GONE = "not in the table any more"
"""The fingerprint of a file that a table had and has no more: as a unit it is empty, and so its rows go."""
Rewrites = Literal["follow", "refuse"]


@dataclass(frozen=True)
class DataFile:
    """A file of a table: what it is called in the ledger, by what it is known, and its bytes."""

    name: str
    fingerprint: str
    bytes: int


class Snapshot(Protocol):
    """A table as it is now."""

    schema: pa.Schema
    files: Mapping[str, DataFile]

    def read(self, name: str) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a file, with the columns that the table has now, and without those that were deleted."""
        ...


LAKE = Guarantees(
    kind="table of a lake",
    declared="LakeReader",
    command="granary load",
    exactly_once="yes, by data file: the raw table is the table at one snapshot",
    deletes="yes: rows go with the data file that they lay in",
    order="yes: rows as they lie in a file",
    lag="no: a load takes the newest snapshot",
    page="lake",
)


class LakeReader(ABC):
    """Reads tables of one format; `Table.location` is a table's folder below the place, or its name in a catalogue."""

    format, mark = "", ""
    """The format, and the file or folder by which a table's own folder is known."""

    def __init__(
        self, location: str, *, rewrites: Rewrites = "follow", credentials: Mapping[str, str] | None = None
    ) -> None:
        """Remember where the tables are; nothing is opened yet.

        Args:
            location: a folder, `s3://BUCKET/FOLDER?endpoint_url=…&region=…`, or of Iceberg a catalogue,
                `iceberg+https://HOST/…?warehouse=…&namespace=…`.
            rewrites: what happens when rows that were loaded are not in the table any more, or lie in other files:
                they are replaced (`follow`), or the load is refused (`refuse`), for tables that may only grow.
            credentials: of the bucket `key` and `secret`, of the catalogue `token` or `credential`; never shown.
        """
        label = type(self).__name__
        given = {"location": location, "rewrites": rewrites, "credentials": credentials}
        validation.arguments(LakeReader.__init__, label, given, secret=("credentials", "location"))
        validation.ranges(given, label, filled=("location",))
        names = ("key", "secret", "token", "credential")
        if others := sorted(set(credentials or {}) - set(names)):
            raise ValueError(f"{label}: credentials are {', '.join(names)}, and not {others[0]!r}")
        self.place: Place = parse(location, credentials or {})
        if self.place.kind == "catalogue" and self.format != "iceberg":
            raise ValueError(f"{label}: an Iceberg catalogue has no Delta tables")
        self.rewrites = rewrites
        self._known: Mapping[str, str] = {}
        self._snapshot: Snapshot | None = None

    def use_fingerprints(self, known: Mapping[str, str]) -> None:
        """Take note of the files that were loaded."""
        self._known = known

    def units(self, table: Table, watermark: str | None) -> list[Unit]:
        """Return the table's files, and before them those that it has no more.

        Raises:
            GranaryError: there is no such table, it was rewritten and may not be, or the contract is of another kind.
        """
        del watermark
        where = self._where(table)
        if table.disposition != "replace_unit" or table.is_daily or table.cursor:
            todo = 'say disposition="replace_unit", without cursor and partition: only what changed is read anyway'
            raise GranaryError("a table of a lake is read by its files", where, todo)
        with self._explained(where):
            snapshot = self._open(table.location)
        self._snapshot, files = snapshot, snapshot.files
        gone = [name for name, mark in self._known.items() if name not in files and mark != GONE]
        again = [name for name, one in files.items() if self._known.get(name, GONE) not in (GONE, one.fingerprint)]
        if self.rewrites == "refuse" and (gone or again):
            changed = f"{len(gone) + len(again):,} of the files that were loaded are not as they were"
            raise GranaryError(
                f"the table was overwritten, compacted, or rows were deleted: {changed}",
                where,
                'read it anew with `granary load --full-refresh`, or say rewrites="follow" in its module',
            )
        units = [Unit(name, GONE) for name in gone]
        return units + [Unit(one.name, one.fingerprint, one.bytes) for one in files.values()]

    def read(self, table: Table, unit: Unit, watermark: str | None) -> Iterator[SourceBatch]:
        """Yield the rows of a file; none of one that the table has no more.

        Raises:
            GranaryError: a file is gone meanwhile; nothing of the load stays, and the next one sees the table anew.
        """
        del watermark
        where = f"{self._where(table)}, {unit.name}"
        assert self._snapshot is not None
        empty = True
        if unit.fingerprint != GONE:
            with self._explained(where):
                for batch in self._snapshot.read(unit.name):
                    empty = False
                    yield source_batch(batch)
        if empty:
            yield source_batch(pa.RecordBatch.from_pylist([], schema=self._snapshot.schema))

    def tables(self) -> list[str]:
        """Return what may be a `Table.location` at the place, in order of names.

        Raises:
            GranaryError: it cannot be looked into.
        """
        with self._explained(self.place.url):
            return self._names()

    @abstractmethod
    def _open(self, location: str) -> Snapshot:
        """Return a table as it is now."""

    def _names(self) -> list[str]:
        found = self.place.destination().names("")
        return sorted({name.partition(self.mark)[0] for name in found if self.mark in name})

    def _where(self, table: Table) -> str:
        return f"{self.place.url}/{table.location}"

    @contextmanager
    def _explained(self, where: str) -> Iterator[None]:
        """Turn what the libraries raise into words, without a secret."""
        try:
            yield
        except GranaryError:
            raise
        except FileNotFoundError:
            raise GranaryError(
                "a file of the table is not there", where, "load again: it may just have changed"
            ) from None
        except Exception as error:  # the libraries share no base class
            words = " ".join(str(error).split())
            for secret in filter(None, self.place.secrets.values()):
                words = words.replace(secret, "…")
            todo = "check the address, the credentials and the server"
            raise GranaryError(
                f"the table cannot be read: {type(error).__name__}: {words[:300]}", where, todo
            ) from None


class IcebergReader(LakeReader):
    """Reads Iceberg tables: of a REST catalogue, or of folders as Hadoop's tables lie there."""

    format, mark = "iceberg", "/metadata/version-hint.text"
    guarantees = replace(LAKE, kind="Iceberg table", declared="IcebergReader")

    def _open(self, location: str) -> Snapshot:
        missing = package("pyiceberg.exceptions").NoSuchTableError
        try:
            if self.place.kind == "catalogue":
                return _Iceberg(self._catalogue().load_table((self.place.namespace, location)))
            static = package("pyiceberg.table").StaticTable
            return _Iceberg(static.from_metadata(f"{self.place.url}/{location}", self._options()))
        except (missing, FileNotFoundError):
            todo = "name a folder with metadata/version-hint.text, a metadata file, or a table of the catalogue"
            raise GranaryError("there is no Iceberg table", f"{self.place.url}/{location}", todo) from None

    def _names(self) -> list[str]:
        if self.place.kind == "catalogue":
            return sorted(name for _, name in self._catalogue().list_tables(self.place.namespace))
        return super()._names()

    def _catalogue(self) -> Any:
        return package("pyiceberg.catalog").load_catalog("granary", type="rest", **self._options())

    def _options(self) -> dict[str, str]:
        return {**self.place.iceberg_options(), "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"}


class _Iceberg:
    """An Iceberg table at its current snapshot."""

    def __init__(self, table: Any) -> None:
        self._table = table
        io = package("pyiceberg.io.pyarrow")
        self.schema: pa.Schema = io.schema_to_pyarrow(table.schema(), include_field_ids=False)
        self._tasks = {self._name(task.file.file_path): task for task in table.scan().plan_files()}
        self.files: Mapping[str, DataFile] = {
            name: DataFile(name, _mark(task), task.file.file_size_in_bytes) for name, task in self._tasks.items()
        }

    def read(self, name: str) -> Iterator[pa.RecordBatch]:
        table = self._table
        expressions = package("pyiceberg.expressions")
        scan = package("pyiceberg.io.pyarrow").ArrowScan(
            table.metadata, table.io, table.schema(), expressions.AlwaysTrue()
        )
        yield from scan.to_record_batches([self._tasks[name]])

    def _name(self, path: str) -> str:
        return path.removeprefix(self._table.location()).lstrip("/")


def _mark(task: Any) -> str:
    """Return by what a file is known: its path, and the files that say which of its rows were deleted."""
    paths = [task.file.file_path, *sorted(one.file_path for one in task.delete_files)]
    return hashlib.sha256("\n".join(paths).encode()).hexdigest()


class DeltaReader(LakeReader):
    """Reads Delta tables, of folders and buckets."""

    format, mark = "delta", "/_delta_log/"
    guarantees = replace(LAKE, kind="Delta table", declared="DeltaReader")

    def _open(self, location: str) -> Snapshot:
        delta, where, options = package("deltalake"), f"{self.place.url}/{location}", self.place.delta_options() or None
        if not delta.DeltaTable.is_deltatable(where, storage_options=options):
            raise GranaryError("there is no Delta table", where, "name a folder with _delta_log")
        return _Delta(delta.DeltaTable(where, storage_options=options))


class _Delta:
    """A Delta table at its current version."""

    def __init__(self, table: Any) -> None:
        dataset = table.to_pyarrow_dataset()
        self.schema: pa.Schema = dataset.schema
        self._fragments = {fragment.path: fragment for fragment in dataset.get_fragments()}
        actions = pa.table(table.get_add_actions(flatten=True))
        sizes = dict(zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), strict=True))
        self.files: Mapping[str, DataFile] = {
            name: DataFile(name, f"file {name}", sizes.get(name) or 0) for name in self._fragments
        }

    def read(self, name: str) -> Iterator[pa.RecordBatch]:
        yield from self._fragments[name].to_batches(schema=self.schema)
