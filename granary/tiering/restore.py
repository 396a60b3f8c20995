"""Archived raw rows back into their raw table, as they were: the same loads, the same places in their units."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from granary.privacy import erasure
from granary.privacy.filter import columns_of
from granary.sources.discovery import SOURCES
from granary.tiering import archive, records, rows
from granary.tiering.parquet_file import opened, sha256_of
from granary.tiering.without import keys_in
from granary.warehouse.connection import connect, count, execute, query, quote_name
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point
from granary.warehouse.records import LOAD_ID, ROW, Target
from granary.warehouse.writer import LoadTransaction

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from granary.privacy.identity import Identity
    from granary.sources.spec import Table
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
        back = bring_back(settings, Target(source, table.name, table.schema, table.key), one, keys or settings)
        if back is None:
            continue
        files += 1
        loads, number = loads + len(back), number + sum(back.values())
        say(f"{source}.{table.name}: {sum(back.values()):,} rows of {one.data_from} to {one.data_until} are back")
    return Restored(source, table.name, files, loads, number)


def bring_back(settings: Settings, target: Target, one: Archive, keys: Settings) -> dict[int, int] | None:
    """Bring one file's rows back; `keys` reach its place.

    Returns:
        The loads with their rows; None if others were quicker.

    Raises:
        GranaryError: it is not there, or has not what it is known to have.
    """
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
            _insert(tx, target, names, wanted)
        records.release(connection, one.archive_id)
    return wanted


def _insert(tx: LoadTransaction, target: Target, names: Sequence[str], wanted: Mapping[int, int]) -> None:
    """Have the rows of these loads in the raw table again, from the temporary one; as many as each has to have."""
    listed = ", ".join(map(quote_name, names))
    back = count(
        tx.connection,
        f"insert into {target.sql_name} ({listed}) select {listed} from {COPY}"
        f" where {rows.condition(list(wanted))} order by {LOAD_ID}, {ROW}",
    )
    if back != sum(wanted.values()):
        what = f"{back:,} rows would come back instead of {sum(wanted.values()):,}"
        place = f"{target.source}.{target.table}"
        raise GranaryError(what, place, "nothing has changed; `granary doctor` looks at the ledger")
    execute(tx.connection, f"drop table {COPY}")
    tx.note(target, back)
    tx.update_statistics(target, back)


# -- who is to be forgotten ---------------------------------------------------------------------------------------


def bring_back_for(settings: Settings, is_one: Callable[[Identity], bool] | None, keys: Settings) -> int:
    """Bring back the files that have somebody who is to be forgotten; return how many.

    It is for a warehouse that was restored. Its places are those of the living one, whose settings are `keys`: nothing
    is written there. What that one has erased meanwhile is found in the file that took the place of the other one. With
    None only those are looked for.

    Raises:
        GranaryError: a file cannot be read, or has not what it is known to have.
    """
    back = 0
    for source in SOURCES.values():
        for table in source.tables:
            if not (names := columns_of(table)):
                continue
            target = Target(source.name, table.name, table.schema, table.key)
            with connect(settings) as connection:
                files = records.archives(connection, source.name, table.name)
            listed: dict[tuple[str, str], Mapping[str, int]] = {}
            for one in files:
                place, folder = one.files(keys), one.path.rpartition("/")[0]
                if (one.place, folder) not in listed:
                    listed[one.place, folder] = place.names(folder)
                there = listed[one.place, folder]
                if one.path not in there:
                    back += _bring_back_without(settings, target, one, keys, records.successor(one, there))
                elif is_one is not None:
                    with opened(place, one.path, one.sha256) as file:
                        is_there = bool(keys_in(file, names, is_one))
                    back += is_there and bring_back(settings, target, one, keys) is not None
    return back


def _bring_back_without(settings: Settings, target: Target, one: Archive, keys: Settings, name: str | None) -> bool:
    """Bring back the rows of a file that was written anew without somebody since; return whether there is one."""
    if name is None:
        return False  # whoever needs it is told that it is missing
    with connect(settings, role="eraser") as connection, LoadTransaction(settings, target.source, connection) as tx:
        erasure.restore(settings, connection)
        wanted = records.loads_in(connection, one.archive_id)
        rows.as_text(connection)
        files = one.files(keys)
        sha256 = sha256_of(files, name)
        with opened(files, name, sha256) as file:
            rows.put(connection, COPY, file)
            columns, marks = file.schema_arrow.names, file.schema_arrow.metadata or {}
            every = sorted(set(file.read([LOAD_ID]).column(LOAD_ID).to_pylist()))
        there = rows.counted(connection, f"pg_temp.{COPY}", columns, every) if every else {}
        told = str(sum(each.rows for each in there.values())), rows.total(there)
        if told != tuple(marks.get(mark, b"").decode() for mark in (b"rows", b"digest")):
            raise records.damaged(replace(one, path=name), "has other rows than were written")
        held = {load_id: there[load_id].rows if load_id in there else 0 for load_id in wanted}
        gone = {load_id: wanted[load_id] - number for load_id, number in held.items() if number < wanted[load_id]}
        if held:
            _insert(tx, target, columns, held)
        newest = "select max(erasure_id) from ops.erasures where finished_at is null"
        ((number,),) = query(connection, newest)
        erasure.settle(connection, target.source, target.table, gone, number, is_archived=True)
        records.rename(connection, one, name, sha256, *told)
        records.release(connection, one.archive_id)
    return True


def forget_files(settings: Settings) -> None:
    """Remove the files that have somebody who is forgotten: others have taken their places.

    Raises:
        GranaryError: a place cannot be reached; the next erasure, or `granary archive-raw`, removes them.
    """
    with connect(settings) as connection:
        found = {one.source for one in records.archives(connection, states=("erased", "rewriting"))}
    for source in sorted(found):
        archive.sweep(settings, source)
