"""Archived raw rows back into their raw table, as they were: the same loads, the same places in their units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from granary.privacy.filter import columns_of
from granary.privacy.identity import identity_of
from granary.sources.discovery import SOURCES
from granary.tiering import archive, records, rows
from granary.tiering.parquet_file import opened
from granary.warehouse.connection import connect, count, execute, quote_name
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point
from granary.warehouse.records import LOAD_ID, ROW, Target
from granary.warehouse.writer import LoadTransaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow.parquet as pq

    from granary.privacy.identity import Identity
    from granary.sources.spec import Table
    from granary.sources.subjects import Subject
    from granary.tiering.records import Archive
    from granary.warehouse.settings import Settings

COPY = "archive_copy"


@dataclass(frozen=True)
class Restored:
    """What came back of a table."""

    source: str
    table: str
    files: int
    loads: int
    rows: int


def restore(
    settings: Settings,
    source: str,
    table: Table,
    *,
    since: str | None = None,
    until: str | None = None,
    keys: Settings | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Restored:
    """Bring back the files of a table that have data of some days (YYYY-MM-DD, both included), whole files each.

    `keys` are the settings by which the place is reached, if not those of the warehouse.

    Raises:
        GranaryError: a file is not there, or has not what it is known to have; nothing of it comes back.
    """
    with connect(settings, role="loader") as connection:
        found = records.archives(connection, source, table.name, since=since, until=until)
    loads = number = files = 0
    for one in found:
        back = _bring_back(settings, Target(source, table.name, table.schema, table.key), one, keys or settings)
        if back is None:
            continue
        files += 1
        loads, number = loads + len(back), number + sum(back.values())
        say(f"{source}.{table.name}: {sum(back.values()):,} rows of {one.data_from} to {one.data_until} are back")
    return Restored(source, table.name, files, loads, number)


def _bring_back(settings: Settings, target: Target, one: Archive, keys: Settings) -> dict[int, int] | None:
    """Bring one file's rows back; return the loads with their rows, None if others were quicker."""
    place = f"{target.source}.{target.table}"
    with LoadTransaction(settings, target.source) as tx:
        connection = tx.connection
        if not records.archives(connection, number=one.archive_id):
            return None
        wanted = records.loads_in(connection, one.archive_id)
        if wanted:
            rows.as_text(connection)
            assert one.sha256 is not None
            with opened(one.files(keys), one.path, one.sha256) as file:
                rows.put(connection, COPY, file)
                names = file.schema_arrow.names
                every = sorted(set(file.read([LOAD_ID]).column(LOAD_ID).to_pylist()))
            there = rows.counted(connection, f"pg_temp.{COPY}", names, every)
            if (sum(each.rows for each in there.values()), rows.total(there)) != (one.rows, one.digest):
                raise records.damaged(one, "has other rows than were written")
            fault_point("archive-loaded-back")
            listed = ", ".join(map(quote_name, names))
            back = count(
                connection,
                f"insert into {target.sql_name} ({listed}) select {listed} from {COPY}"
                f" where {rows.condition(list(wanted))} order by {LOAD_ID}, {ROW}",
            )
            if back != sum(wanted.values()):
                what = f"{back:,} rows would come back instead of {sum(wanted.values()):,}"
                raise GranaryError(what, place, "nothing has changed; `granary doctor` looks at the ledger")
            execute(connection, f"drop table {COPY}")
            tx.note(target, back)
            tx.update_statistics(target, back)
        records.release(connection, one.archive_id)
    return wanted


# -- who is to be forgotten ---------------------------------------------------------------------------------------


def holding(
    settings: Settings, is_one: Callable[[Identity], bool], *, keys: Settings | None = None
) -> Iterator[tuple[str, Table, int]]:
    """Yield the tables of which archived files have somebody, each with how many rows.

    Of a warehouse that was restored, `keys` are the settings that reach the places; a file that is gone has nobody: the
    living warehouse removed it when it forgot somebody.

    Raises:
        GranaryError: a file cannot be read.
    """
    for source in SOURCES.values():
        for table in source.tables:
            names = columns_of(table)
            if not names:
                continue
            with connect(settings) as connection:
                files = records.archives(connection, source.name, table.name)
            found = 0
            for one in files:
                place = one.files(keys or settings)
                if keys and one.path not in place.names(one.path.rpartition("/")[0]):
                    continue
                assert one.sha256 is not None
                with opened(place, one.path, one.sha256) as file:
                    found += sum(_rows_of(file, name, subject, is_one) for name, subject in names.items())
            if found:
                yield source.name, table, found


def _rows_of(file: pq.ParquetFile, name: str, subject: Subject, is_one: Callable[[Identity], bool]) -> int:
    """Return how many rows of a file are of somebody, by a column with keys."""
    if name not in file.schema_arrow.names:
        return 0
    counts = pc.value_counts(file.read([name]).column(name).combine_chunks()).to_pylist()
    return sum(
        int(one["counts"])
        for one in counts
        if one["values"] is not None and is_one(identity_of(subject, one["values"]))
    )


def bring_back_for(
    settings: Settings, is_one: Callable[[Identity], bool], *, keys: Settings | None = None
) -> list[Restored]:
    """Bring back whole tables of which archived files have somebody who is to be forgotten, before they are."""
    found = list(holding(settings, is_one, keys=keys))
    return [restore(settings, source, table, keys=keys) for source, table, _ in found]


def forget_files(settings: Settings) -> None:
    """Remove at once the files of tables with data subjects that no load needs any more: they may have them."""
    with connect(settings) as connection:
        found = {(one.source, one.table) for one in records.archives(connection, states=("released",))}
    for source in SOURCES.values():
        if any(columns_of(table) and (source.name, table.name) in found for table in source.tables):
            archive.sweep(settings, source.name, kept_days=0)
