"""Old raw rows leave Postgres for a file of a lake: written, read back into Postgres, compared, and only then deleted.

A file has whole loads of one table, of one month of their data. Rows, ledger and the record of the file change in one
transaction, under the lock of the source. The record is there before the file is: what a killed process left is found
by it, and removed by the next one.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from itertools import groupby
from typing import TYPE_CHECKING

import psycopg

from granary.load.newest import last_date, zone
from granary.readers.tables.place import place_of
from granary.tiering import records, rows
from granary.tiering.parquet_file import CHUNK_BYTES, GROUP_ROWS, chunks, opened, write_file
from granary.warehouse.connection import LockHeldError, connect, count, execute, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point
from granary.warehouse.records import Target
from granary.warehouse.words import plural
from granary.warehouse.writer import LoadTransaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from granary.sources.spec import Table
    from granary.tiering.records import Archive
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

MOST_ROWS = 2_000_000
"""Rows that a file gets, unless a single load has more: what is moved at a time, while loads of the source wait."""
KEPT_DAYS = 30
"""Days for which a file stays that no load needs any more: a backup of before may still name it."""
COPY = "archive_copy"
DUE = """
    select load_id, rows_loaded, at
    from (
        select load_id, rows_loaded, coalesce(data_at, finished_at) as at
        from ops.load_audit
        where source = $1 and table_name = $2 and status = 'loaded' and superseded_by is null and archive_id is null
            and rows_loaded > 0 and load_id <= coalesce($4::bigint, load_id)
    ) as loads
    where at <= $3::timestamptz
    order by at, load_id
"""
NEEDLESS = """
    select archive_id
    from ops.archives as files
    where source = $1 and (
        state in ('writing', 'erased')
        or (state = 'released' and released_at <= clock_timestamp() - make_interval(days => $2))
        or (state = 'rewriting' and (
            written_at < clock_timestamp() - interval '1 day'
            or not exists (
                select from ops.archives as old
                where old.archive_id = files.replaces and old.state in ('holds', 'released')
            )
        ))
    )
"""
"""An erasure whose process was killed before its transaction leaves a file that replaces none: it may be at work."""
HOLDS = """
    update ops.archives
    set state = 'holds', row_count = $2, byte_count = $3, raw_byte_count = $4, sha256 = $5, digest = $6,
        data_from = $7, data_until = $8
    where archive_id = $1 and state = 'writing'
    returning archive_id
"""


@dataclass(frozen=True)
class Due:
    """A load whose rows are old enough, and the moment of its newest data."""

    load_id: int
    rows: int
    at: datetime

    @property
    def day(self) -> date:
        """The day of its newest data: a business date ends when the next one begins."""
        return (self.at - timedelta(microseconds=1)).astimezone(zone()).date()


@dataclass(frozen=True)
class Moved:
    """What was moved of a table, or would be; `files` are 0 for what only would be."""

    source: str
    table: str
    before: str
    loads: int
    rows: int
    files: int = 0
    bytes: int = 0
    raw_bytes: int = 0


def oldest_kept(settings: Settings, table: Table) -> datetime:
    """Return the moment before which data are archived; of a history that has ended, counted from its last date."""
    assert table.archive_after is not None
    ended = last_date(settings)
    now = datetime.combine(ended + timedelta(days=1), time(), timezone.utc) if ended else datetime.now(timezone.utc)
    return now - table.archive_after


def due(connection: Connection, source: str, table: str, before: datetime, newest: int | None) -> list[Due]:
    """Return the loads whose data are that old, up to the newest load that all models have; oldest first."""
    return [
        Due(int(load_id), int(number), at)
        for load_id, number, at in query(connection, DUE, source, table, before, newest)
    ]


def batches(found: Sequence[Due]) -> Iterator[list[Due]]:
    """Yield the loads of one file after the other: of one month, and up to so many rows."""
    for _, month in groupby(found, key=lambda one: f"{one.day:%Y-%m}"):
        batch: list[Due] = []
        for one in month:
            if batch and sum(each.rows for each in batch) + one.rows > MOST_ROWS:
                yield batch
                batch = []
            batch.append(one)
        yield batch


def archive(
    settings: Settings,
    source: str,
    table: Table,
    before: datetime,
    newest: int | None = None,
    *,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Moved:
    """Move the rows of a table that are older than a moment.

    Args:
        settings: the warehouse.
        source: the source's name.
        table: the contract.
        before: the moment; a load is as old as its newest data, or as it is itself where nobody knows.
        newest: the newest load that all models have (see `policy.newest_seen`): later ones stay.
        dry_run: only count.
        say: told of each file.

    Raises:
        GranaryError: the place cannot be written, what was read back is not what was written, or a build reads the
            table for longer than a lock is waited for. What was moved before stays so.
    """
    target = Target(source, table.name, table.schema, table.key)
    with connect(settings, role="loader") as connection:
        found = due(connection, source, table.name, before, newest)
    day = before.astimezone(timezone.utc).date().isoformat()
    if dry_run:
        return Moved(source, table.name, day, len(found), sum(one.rows for one in found))
    where = records.place(settings)
    sweep(settings, source)
    done: list[Archive] = []
    loads = 0
    for batch in batches(found):
        one = _move(settings, target, where, batch)
        if one is None:
            continue
        done.append(one)
        loads += len(batch)
        say(
            f"{source}.{table.name}: {plural(one.rows, 'row')} of {one.data_from} to {one.data_until} are in {one.path}"
        )
    if done:
        vacuum(settings, target)
    return Moved(
        source,
        table.name,
        day,
        loads,
        sum(one.rows for one in done),
        len(done),
        sum(one.bytes for one in done),
        sum(one.raw_bytes for one in done),
    )


def _move(settings: Settings, target: Target, where: str, batch: Sequence[Due]) -> Archive | None:
    """Move the rows of some loads into one file, in one transaction; None if others were quicker."""
    name = f"{target.source}.{target.table}"
    path = f"raw/{target.source}/{target.table}/{batch[0].day:%Y-%m}-{uuid.uuid4().hex}.parquet"
    files = place_of(settings, where).destination()
    with LoadTransaction(settings, target.source) as tx:
        connection = tx.connection
        wanted = _still(connection, batch)
        if not wanted:
            return None
        rows.as_text(connection)
        number = records.begin(settings, target.source, target.table, where, path)
        fault_point("archive-noted")
        schema = rows.schema_of(tx.columns(target))
        arriving = rows.read(settings, target.sql_name, schema, list(wanted))
        written = write_file(files, path, schema, chunks(arriving, GROUP_ROWS, CHUNK_BYTES))
        fault_point("archive-written")
        with opened(files, path, written["sha256"]) as file:
            rows.put(connection, COPY, file)
        fault_point("archive-read-back")
        there = rows.counted(connection, target.sql_name, schema.names, list(wanted))
        back = rows.counted(connection, f"pg_temp.{COPY}", schema.names, list(wanted))
        _check(name, wanted, there, back)
        _alone(connection, name)
        gone = count(connection, f"delete from {target.sql_name} where {rows.condition(list(wanted))}")
        total = sum(wanted.values())
        if gone != total:
            raise GranaryError(f"{gone:,} rows would leave the raw table instead of {total:,}", name, "run this again")
        tx.note(target, -gone)
        size = sum(one.bytes for one in there.values())
        days = [one.day for one in batch if one.load_id in wanted]
        marks = (total, written["bytes"], size, written["sha256"], rows.total(back), min(days), max(days))
        if not query(connection, HOLDS, number, *marks):
            raise GranaryError("the record of the file is gone", name, "run this again")
        execute(
            connection,
            "update ops.load_audit set archive_id = $2 where load_id = any($1::bigint[])",
            list(wanted),
            number,
        )
        execute(connection, f"drop table {COPY}")
        (one,) = records.archives(connection, number=number)
        fault_point("archive-before-commit")
    fault_point("archive-committed")
    return one


def _still(connection: Connection, batch: Sequence[Due]) -> dict[int, int]:
    """Return the loads that count and are not archived, now that nobody else changes that, and their rows."""
    found = query(
        connection,
        "select load_id, rows_loaded from ops.load_audit where load_id = any($1::bigint[]) and rows_loaded > 0"
        " and superseded_by is null and archive_id is null order by load_id",
        [one.load_id for one in batch],
    )
    return {int(load_id): int(number) for load_id, number in found}


def _check(name: str, wanted: dict[int, int], there: dict[int, rows.Counted], back: dict[int, rows.Counted]) -> None:
    """Refuse to go on where the ledger, the raw table and the file do not say the same of each load.

    Raises:
        GranaryError: they do not.
    """
    for load_id, number in wanted.items():
        held, read = there.get(load_id), back.get(load_id)
        if held is None or held.rows != number:
            what = f"load {load_id} has {plural(held.rows if held else 0, 'row')}, and the ledger says {number:,}"
            raise GranaryError(what, name, "load the table: it reads again what was lost")
        if read is None or (read.rows, read.digest) != (held.rows, held.digest):
            what = f"load {load_id} has other rows in the file than in the raw table"
            raise GranaryError(what, name, "nothing has changed; run this again")


def _alone(connection: Connection, name: str) -> None:
    """Wait for the builds that read raw tables now; those that begin meanwhile wait for this transaction.

    Raises:
        GranaryError: one works for longer than a lock is waited for.
    """
    try:
        execute(connection, "select pg_advisory_xact_lock(ops.archive_lock())")
    except LockHeldError:
        raise GranaryError("a build reads raw tables", name, "wait until it has ended, and run this again") from None


def sweep(settings: Settings, source: str, *, kept_days: int = KEPT_DAYS) -> int:
    """Remove files that no load needs; return how many.

    They were left by a killed process, their rows are back or were replaced, or somebody in them is forgotten.

    Raises:
        GranaryError: a place cannot be reached.
    """
    removed = 0
    with LoadTransaction(settings, source) as tx:
        for one in records.archives(tx.connection, source):
            if not records.loads_in(tx.connection, one.archive_id):
                records.release(tx.connection, one.archive_id)
        numbers = {int(number) for (number,) in query(tx.connection, NEEDLESS, source, kept_days)}
        for one in records.archives(tx.connection, source, states=("writing", "released", "rewriting", "erased")):
            if one.archive_id in numbers:
                one.files(settings).remove(one.path)
                fault_point("archive-swept")
                execute(tx.connection, "delete from ops.archives where archive_id = $1", one.archive_id)
                removed += 1
    return removed


def vacuum(settings: Settings, target: Target) -> None:
    """Have the pages that rows left be used again; whoever reads the table is not disturbed."""
    with suppress(psycopg.Error, GranaryError), connect(settings, role="loader", autocommit=True) as connection:
        execute(connection, f"vacuum (analyze) {target.sql_name}")
