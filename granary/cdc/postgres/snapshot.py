"""The initial copy of the captured tables, joined to the slot's changes without gap or overlap.

Why nothing is lost or double is shown in docs/engine/decisions/0011-snapshot-and-stream.md; in short: the slot is made
first, then every transaction that was open at that moment is waited for, and only then is the snapshot taken. What was
committed before the slot begins is therefore in the snapshot. What was committed later is in the stream, and the
snapshot's own list says which of it the snapshot has seen.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from adbc_driver_manager import Error as DriverError

from granary.cdc.postgres.catalog import Origins
from granary.cdc.postgres.changes import KINDS
from granary.cdc.postgres.lsn import lsn_number, lsn_text
from granary.cdc.postgres.state import Snapshot
from granary.cdc.rows import Image, key_values, landing, source_names
from granary.warehouse.connection import execute, query, quote_name
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from granary.cdc.landing import Lander
    from granary.cdc.postgres.origin import Origin
    from granary.sources.spec import Source, Table
    from granary.sources.units import SourceBatch
    from granary.warehouse.connection import ArrowConnection

DEADLOCK, ATTEMPTS = "40P01", 5
PATIENCE_SECONDS = 600
"""How long transactions that were open when the slot was made may keep the snapshot waiting."""

SAME_AS_TEXT = re.compile(
    r"smallint|integer|bigint|real|double precision|numeric.*|text|uuid|date|json|jsonb|character varying.*"
    r"|timestamp.* with(out)? time zone"
)
"""Types whose cast to text writes what their output function writes. Of others, a boolean's writes `true`
where the stream has `t`, character(n)'s drops the padding, inet's adds the mask."""


def settle(origin: Origin) -> None:
    """Wait until every transaction that has written and is open now has ended.

    Raises:
        GranaryError: one is still open after `PATIENCE_SECONDS`.
    """
    # An id of our own: every transaction that had one before has a lower one. (The xmax of a snapshot would not do: it
    # is the id after the latest that has ended, and transactions with that id or higher may be at work.)
    edge = origin.query("select pg_current_xact_id()::text")[0][0]
    patience = time.monotonic() + PATIENCE_SECONDS
    while not origin.query("select pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8", edge)[0][0]:
        if time.monotonic() > patience:
            raise GranaryError(
                f"transactions at the source have been open for over {PATIENCE_SECONDS} s",
                origin.where,
                "see pg_stat_activity and pg_prepared_xacts there for the oldest, end it, and capture again",
            )
        time.sleep(0.05)


def freeze(origin: Origin, connection: ArrowConnection, tables: Mapping[str, Origins]) -> Snapshot:
    """Take the snapshot in a transaction that stays open, with the tables locked against truncate and change.

    TRUNCATE is not MVCC-safe: without the lock, one that came after the snapshot would empty what is still to be read.
    A transaction of the source that truncates several tables in another order may deadlock with us: if the server
    ends ours, the snapshot is not taken yet, and we try again.

    Raises:
        GranaryError: a table stays locked by others.
    """
    names = ", ".join(table.sql_name for table in tables.values())
    attempts = ATTEMPTS
    while True:
        try:
            execute(connection, "set transaction isolation level repeatable read, read only")
            execute(connection, "set local lock_timeout = '60s'")
            execute(connection, f"lock table {names} in access share mode")
            text, until = query(connection, "select pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text")[0]
            return Snapshot(str(text), lsn_number(str(until)))
        except DriverError as error:
            attempts -= 1
            if error.sqlstate != DEADLOCK or not attempts:
                raise origin.failure(error) from None
            connection.rollback()


def harden(origin: Origin, seen: Snapshot) -> None:
    """Wait until what the snapshot has seen is safe on the source's disk.

    A transaction with synchronous_commit = off can be seen before it is; after a crash it would never have been, and
    the copy must not have it. An id of our own, committed after it, has the source's log writer go on that far.
    """
    origin.query("select pg_current_xact_id()::text")
    while not origin.query("select pg_current_wal_flush_lsn() >= $1::text::pg_lsn", lsn_text(seen.until))[0][0]:
        time.sleep(0.02)


def copy(
    origin: Origin, connection: ArrowConnection, source: Source, tables: Mapping[str, Origins], lander: Lander, lsn: int
) -> int:
    """Land every row of the snapshot in place of what the tables hold; return the rows read.

    In the change table each copy begins with a row `reset`: everything before it counts no more. What is gone since the
    copy before says so itself, with a row `delete` ahead of that one.
    """
    rows = 0
    try:
        for table in source.tables:
            gone = _gone(origin, connection, table, tables[table.name], lander, lsn) if lander.has(table) else None
            if gone:
                lander.land(table, gone)
            for source_batch in _source_batches(origin, connection, table, tables[table.name], lsn):
                rows += lander.land(table, source_batch).changes
            rows -= 1
            fault_point("cdc-snapshot")
    except DriverError as error:
        raise origin.failure(error) from None
    return rows


def _gone(
    origin: Origin, connection: ArrowConnection, table: Table, origins: Origins, lander: Lander, lsn: int
) -> SourceBatch | None:
    """Return the rows of the current table whose keys the snapshot lacks, as deletes; None if it lacks none."""
    names, kinds = source_names(table), _kinds(connection, origins)
    delivered = {names[name]: name for name in origins.types if names.get(name) in table.key}
    listed = ", ".join(_as_text(delivered[name], origins.types[delivered[name]]) for name in table.key)
    wanted = [(table.column(name), kinds[delivered[name]]) for name in table.key]
    with connection.cursor() as cursor:
        cursor.execute(f"select {listed} from {origins.sql_name}{_where(origins)}")
        keys = lander.lacking(table, (key_values(wanted, b.columns) for b in origin.stream(cursor.fetch_record_batch)))
    if not keys:
        return None
    texts = {
        name: pa.array(values, pa.string()) for name, values in zip(table.key, zip(*keys, strict=True), strict=True)
    }
    nothing = pa.nulls(len(keys), pa.string())
    images = [
        Image(name, names.get(name), kinds[name], texts.get(names.get(name, ""), nothing)) for name in origins.types
    ]
    nobody = np.zeros(len(keys), bool)
    described = _described("delete", len(keys), -len(keys), lsn, _now(connection))
    return landing(described, images, table, nobody, ~nobody, {})


def _described(op: str, count: int, first: int, lsn: int, now: int) -> dict[str, pa.Array]:
    """Return what the change table says of so many rows of a copy, the first of which has this place in it."""
    return {
        "cdc_op": pa.repeat(pa.scalar(op), count),
        "cdc_lsn": pa.repeat(pa.scalar(lsn, pa.int64()), count),
        "cdc_seq": pa.array(np.arange(first, first + count)),
        "cdc_xid": pa.nulls(count, pa.int64()),
        "cdc_committed_at": pa.repeat(pa.scalar(now, pa.timestamp("us", tz="UTC")), count),
        "cdc_key_before": pa.nulls(count, pa.string()),
    }


def _now(connection: ArrowConnection) -> int:
    """Return the snapshot's time, in microseconds since 1970."""
    return int(str(query(connection, "select (extract(epoch from now()) * 1000000)::bigint")[0][0]))


def _kinds(connection: ArrowConnection, origins: Origins) -> dict[str, pa.DataType | None]:
    """Return the kind of each column."""
    rows = query(
        connection,
        "select attname::text, atttypid::bigint from pg_attribute where attrelid = $1::bigint::oid and attnum > 0",
        origins.oid,
    )
    return {str(name): KINDS.get(int(str(oid))) for name, oid in rows}


def _where(origins: Origins) -> str:
    return f" where {origins.filter}" if origins.filter else ""


def _source_batches(
    origin: Origin, connection: ArrowConnection, table: Table, origins: Origins, lsn: int
) -> Iterator[SourceBatch]:
    types = list(origins.types.items())
    now = _now(connection)
    listed = ", ".join(f"{_as_text(name, kind)} as c{number}" for number, (name, kind) in enumerate(types))
    kinds = _kinds(connection, origins)
    names = source_names(table)
    nothing = [pa.array([None], pa.string()) for _ in types]

    def rows(op: str, texts: list[pa.Array], first: int) -> SourceBatch:
        count = len(texts[0])
        images = [Image(name, names.get(name), kinds[name], text) for (name, _), text in zip(types, texts, strict=True)]
        whole = np.full(count, op == "snapshot")
        return landing(_described(op, count, first, lsn, now), images, table, whole, whole, {})

    yield rows("reset", nothing, 0)
    first = 1
    with connection.cursor() as cursor:
        cursor.execute(f"select {listed} from {origins.sql_name}{_where(origins)}")
        for batch in origin.stream(cursor.fetch_record_batch):
            yield rows("snapshot", batch.columns, first)
            first += batch.num_rows


def _as_text(name: str, kind: str) -> str:
    """Return SQL for a column as the type's output function writes it, which is what the stream has."""
    column = quote_name(name)
    if SAME_AS_TEXT.fullmatch(kind) and not kind.endswith("]"):
        return f"{column}::text"
    return f"case when {column} is not null then format('%s', {column}) end"
