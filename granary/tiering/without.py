"""Archived files without somebody who is forgotten: a new one takes the place of each that has them.

It is written and compared before the erasure's transaction, while loads go on: a file never changes. The transaction
only has the ledger name the new file; the old one is removed after it (`granary.tiering.archive.sweep`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from granary.privacy import locator
from granary.privacy.erasure import Away
from granary.privacy.filter import columns_of
from granary.privacy.identity import identity_of
from granary.privacy.locations import Place
from granary.sources.discovery import SOURCES
from granary.tiering import records, rows
from granary.tiering.parquet_file import CHUNK_BYTES, GROUP_ROWS, chunks, opened, write_file
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point
from granary.warehouse.records import LOAD_ID, ROW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow.parquet as pq

    from granary.privacy.filter import Names
    from granary.privacy.identity import Identity
    from granary.tiering.records import Archive
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

OLD, NEW = "archive_old", "archive_new"
STATES = ("holds", "released")
"""A file whose rows are back stays for backups of before: it may have somebody as well."""
Keys = dict["Identity", dict[str, list[object]]]
"""The spellings of each one's key, by column."""


@dataclass
class Found:
    """What a file has of somebody: rows by load, and sums of the columns that are added up."""

    loads: Counter[int] = field(default_factory=Counter)
    measures: dict[str, float] = field(default_factory=dict)


@dataclass
class Rewritten:
    """A file that has somebody, what it has of them, and the number of the one without them, if it was written."""

    old: Archive
    number: int | None
    found: dict[Identity, Found]


class ArchivedRows:
    """The files of a warehouse's archived raw rows, for an erasure; with `dry_run` they are only looked through."""

    def __init__(
        self, settings: Settings, *, dry_run: bool = False, say: Callable[[str], None] = lambda _: None
    ) -> None:
        """Look at nothing yet."""
        self._settings, self._dry_run, self._say = settings, dry_run, say
        self._seen: set[int] = set()
        self._rewritten: dict[int, Rewritten] = {}

    def prepare(self, is_one: Callable[[Identity], bool]) -> None:
        """Look through the files that were not looked through yet, and write those anew that have somebody.

        Raises:
            GranaryError: a file cannot be read or written, or what was read back is not what was written.
        """
        with connect(self._settings) as connection:
            files = _files(connection)
        for one, names in files:
            if one.archive_id in self._seen:
                continue
            if one.state == "released" and one.path not in one.files(self._settings).names(one.path.rpartition("/")[0]):
                self._seen.add(one.archive_id)  # nobody misses it
                continue
            assert one.sha256 is not None
            with opened(one.files(self._settings), one.path, one.sha256) as file:
                if keys := keys_in(file, names, is_one):
                    self._rewritten[one.archive_id] = self._rewrite(one, file, names, keys)
            self._seen.add(one.archive_id)

    def is_ready(self, connection: Connection) -> bool:
        """Return whether every file that there is was looked through, and those that were written anew are there."""
        there = {one.archive_id for one, _ in _files(connection)}
        self._rewritten = {number: one for number, one in self._rewritten.items() if number in there}
        return there <= self._seen

    def away(self, connection: Connection) -> dict[Identity, list[Away]]:
        """Return what the files have, by whose it is."""
        every: dict[Identity, list[Away]] = {}
        for one in self._rewritten.values():
            counts = records.loads_in(connection, one.old.archive_id)
            kind = "archived" if one.old.state == "holds" else "kept for backups"
            for identity, found in one.found.items():
                every.setdefault(identity, []).append(
                    Away(
                        one.old.source,
                        one.old.table,
                        f"raw_{one.old.source}.{one.old.table}, {kind}",
                        found.loads.total(),
                        {load: number for load, number in found.loads.items() if load in counts},
                        {name: str(round(number, 2)) for name, number in found.measures.items()},
                    )
                )
        return every

    def switch(self, connection: Connection) -> None:
        """Have the ledger name the new files.

        Raises:
            GranaryError: one is gone, which nobody but this may remove.
        """
        for one in self._rewritten.values():
            assert one.number is not None
            records.replace(connection, one.old, one.number)
        if self._rewritten:
            fault_point("archive-switched")

    def _rewrite(self, one: Archive, file: pq.ParquetFile, names: Names, keys: Keys) -> Rewritten:
        """Write a file without somebody, and compare it with what Postgres makes of the old one."""
        found = {identity: Found() for identity in keys}
        staying = _without(file, keys, found)
        if self._dry_run:
            for _ in staying:
                pass
            return Rewritten(one, None, found)
        self._say(f"{one.path} is written anew without them")
        with connect(self._settings, role="loader") as connection:
            rows.as_text(connection)
            rows.put(connection, OLD, file)
            gone = {identity: _delete(connection, names, identity) for identity in keys}
            columns, loads = file.schema_arrow.names, _loads(file)
            left = rows.counted(connection, f"pg_temp.{OLD}", columns, loads)
            total = sum(each.rows for each in left.values())
            if total + sum(each.total() for each in gone.values()) != one.rows:
                raise records.damaged(one, "has other rows than were written")
            marks = {"rows": str(total), "digest": rows.total(left)}
            number, path = records.begin_without(self._settings, one)
            fault_point("archive-rewriting")
            files = one.files(self._settings)
            schema = file.schema_arrow.with_metadata(marks)
            written = write_file(files, path, schema, chunks(staying, GROUP_ROWS, CHUNK_BYTES))
            fault_point("archive-rewritten")
            with opened(files, path, written["sha256"]) as new:
                rows.put(connection, NEW, new)
            if _told(rows.counted(connection, f"pg_temp.{NEW}", columns, loads)) != _told(left):
                raise GranaryError("the file has other rows than it was to have", path, "run this again")
            size = sum(each.bytes for each in left.values())
            records.written_without(self._settings, number, total, size, written, marks["digest"])
            fault_point("archive-compared")
        if {identity: each.loads for identity, each in found.items()} != gone:
            raise GranaryError("Postgres finds other rows of them than were left out", one.path, "run this again")
        return Rewritten(one, number, found)


def _files(connection: Connection) -> list[tuple[Archive, Names]]:
    """Return the files of tables with data subjects."""
    found = []
    for source in SOURCES.values():
        for table in source.tables:
            if names := columns_of(table):
                files = records.archives(connection, source.name, table.name, states=STATES)
                found += [(one, names) for one in files]
    return found


def keys_in(file: pq.ParquetFile, names: Names, is_one: Callable[[Identity], bool]) -> Keys:
    """Return whose keys a file has, of those whom `is_one` knows."""
    found: Keys = {}
    for name, subject in names.items():
        if name not in file.schema_arrow.names:
            continue
        for value in pc.unique(file.read([name]).column(name)).drop_null().to_pylist():
            identity = identity_of(subject, value)
            if is_one(identity):
                found.setdefault(identity, {}).setdefault(name, []).append(value)
    return found


def _without(file: pq.ParquetFile, keys: Keys, found: Mapping[Identity, Found]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file that are nobody's of those, and count the others; a row of two is the first one's."""
    for batch in file.iter_batches(rows.BATCH_ROWS):
        kept = batch
        for identity, spellings in keys.items():
            mask = pa.nulls(kept.num_rows, pa.bool_()).fill_null(False)
            for name, values in spellings.items():
                column = kept.column(name)
                mask = pc.or_(mask, pc.is_in(column, value_set=pa.array(values, column.type)))
            gone = kept.filter(mask)
            kept = kept.filter(pc.invert(mask))
            _count(gone, found[identity])
        yield kept


def _count(gone: pa.RecordBatch, found: Found) -> None:
    """Add rows that go to what is known of somebody."""
    if not gone.num_rows:
        return
    for one in pc.value_counts(gone.column(LOAD_ID)).to_pylist():
        found.loads[int(one["values"])] += int(one["counts"])
    for each in gone.schema:
        if each.name not in (LOAD_ID, ROW) and (pa.types.is_floating(each.type) or pa.types.is_decimal(each.type)):
            total = float(pc.sum(gone.column(each.name)).as_py() or 0)
            found.measures[each.name] = found.measures.get(each.name, 0.0) + total


def _delete(connection: Connection, names: Names, identity: Identity) -> Counter[int]:
    """Delete somebody's rows from the copy of a file, by Postgres; return how many of each load."""
    gone = Counter[int]()
    for name, subject in names.items():
        if subject != identity.subject:
            continue
        condition, wanted = locator.matching(connection, Place("pg_temp", OLD, name, subject), identity)
        found = query(
            connection,
            f"with gone as (delete from pg_temp.{OLD} where {condition} returning {LOAD_ID})"
            f" select {LOAD_ID}, count(*) from gone group by 1",
            wanted,
        )
        gone.update({int(load): int(number) for load, number in found})
    return gone


def _told(counted: Mapping[int, rows.Counted]) -> dict[int, tuple[int, int]]:
    return {load_id: (one.rows, one.digest) for load_id, one in counted.items()}


def _loads(file: pq.ParquetFile) -> list[int]:
    return sorted(set(file.read([LOAD_ID]).column(LOAD_ID).to_pylist()))
