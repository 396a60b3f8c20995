"""The initial copy of the captured tables, joined to the log without gap or overlap.

A snapshot of InnoDB and the position in the log that belongs to it are taken in one step: MariaDB tells the position of
a snapshot (binlog_snapshot_file and _position), MySQL's is read while a global read lock keeps commits out. What was
committed before it is in the copy, what was committed later is in the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from granary.cdc.mysql.catalog import Origins
from granary.cdc.mysql.gtid import GtidSet
from granary.cdc.mysql.values import kind_of, rewritten, selected
from granary.cdc.rows import Image, key_values, landing, source_names
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from granary.cdc.landing import Lander
    from granary.cdc.mysql.catalog import OriginColumn
    from granary.cdc.mysql.server import Server
    from granary.sources.spec import Source, Table
    from granary.sources.units import SourceBatch

ALTERED, ATTEMPTS = 1412, 5
"""Error of a table that was altered between the snapshot and the first look at it."""
ROWS = 8192
"""Rows that are turned into a batch at a time."""
LOCK_SECONDS = 30
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Frozen:
    """What a snapshot has seen: its transactions, where the log was, and the source's clock (ISO 8601)."""

    gtid: str
    file: str
    position: int
    clock: str

    @property
    def instant(self) -> int:
        """The clock in microseconds since 1970."""
        return (datetime.fromisoformat(self.clock) - EPOCH) // timedelta(microseconds=1)


def reading(server: Server) -> Any:
    """Open a session that hands rows over as they come, and their values as text."""
    from pymysql.cursors import SSCursor  # noqa: PLC0415 - an extra

    return server.connect(conv={}, cursorclass=SSCursor)


def freeze(server: Server, session: Any, tables: Mapping[str, Origins]) -> Frozen:
    """Take the snapshot in a transaction that stays open; from then on no table can be altered or truncated.

    Raises:
        GranaryError: the source refuses it.
    """
    for attempt in range(ATTEMPTS):
        server.query("rollback", session=session)
        seen = _maria(server, session) if server.is_mariadb else _mysql(server, session)
        try:
            for table in tables.values():
                _run(session, f"select 1 from {table.sql_name} limit 1")
        except Exception as error:
            if error.args[:1] == (ALTERED,) and attempt + 1 < ATTEMPTS:
                continue
            raise server.failure(error) from None
        return seen
    raise AssertionError


def _run(session: Any, sql: str) -> list[tuple[Any, ...]]:
    with session.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def _maria(server: Server, session: Any) -> Frozen:
    clock = server.now().clock
    server.query("start transaction with consistent snapshot, read only", session=session)
    found = dict(server.query("show status like 'binlog_snapshot_%'", session=session))
    file, position = found["Binlog_snapshot_file"], int(found["Binlog_snapshot_position"])
    gtid = server.query("select binlog_gtid_pos(%s, %s)", file, position)[0][0]
    if gtid is None:
        raise GranaryError("the source has no log where its snapshot was taken", server.where, "capture again")
    return Frozen(str(GtidSet.parse(str(gtid))), file, position, clock)


def _mysql(server: Server, session: Any) -> Frozen:
    keeper = server.connect()
    try:
        server.query(f"set session lock_wait_timeout = {LOCK_SECONDS}", session=keeper)
        server.query("flush tables with read lock", session=keeper)
        server.query("start transaction with consistent snapshot, read only", session=session)
        now = server.now()
    finally:
        keeper.close()
    return Frozen(now.gtid, now.file, now.position, now.clock)


def copy(
    server: Server,
    session: Any,
    source: Source,
    tables: Mapping[str, Origins],
    lander: Lander,
    commit: int,
    instant: int,
) -> int:
    """Land every row of the snapshot in place of what the tables hold; return the rows read.

    In the change table each copy begins with a row `reset`: everything before it counts no more. What is gone since the
    copy before says so itself, with a row `delete` ahead of that one.

    Args:
        server: the source.
        session: the transaction of the snapshot.
        source: whose tables are copied.
        tables: what they are at the source.
        lander: the way into the warehouse.
        commit: the number of commits before.
        instant: the snapshot's time, in microseconds since 1970.
    """
    rows = 0
    for table in source.tables:
        origins = tables[table.name]
        if lander.has(table) and (gone := _gone(server, session, table, origins, lander, commit, instant)):
            lander.land(table, gone)
        nothing = [pa.nulls(1, pa.string())] * len(origins.columns)
        lander.land(table, _rows("reset", table, origins, nothing, 0, commit, instant))
        first = 1
        for texts in _texts(server, session, origins, origins.columns):
            batch = _rows("snapshot", table, origins, texts, first, commit, instant)
            rows += lander.land(table, batch).changes
            first += len(texts[0])
        fault_point("cdc-snapshot")
    return rows


def _texts(
    server: Server, session: Any, origins: Origins, columns: tuple[OriginColumn, ...]
) -> Iterator[list[pa.Array]]:
    """Yield the columns of a table as text, some rows at a time."""
    listed = ", ".join(selected(column.name, column.type) for column in columns)
    try:
        with session.cursor() as cursor:
            cursor.execute(f"select {listed} from {origins.sql_name}")
            while rows := cursor.fetchmany(ROWS):
                yield [
                    rewritten(pa.array(values, pa.string()), column.type)
                    for column, values in zip(columns, zip(*rows, strict=True), strict=True)
                ]
    except Exception as error:
        raise server.failure(error) from None


def _rows(
    op: str, table: Table, origins: Origins, texts: list[pa.Array], first: int, commit: int, instant: int
) -> SourceBatch:
    count = len(texts[0])
    names = source_names(table)
    images = [
        Image(column.name, names.get(column.name), kind_of(column.words), text)
        for column, text in zip(origins.columns, texts, strict=True)
    ]
    whole = np.full(count, op == "snapshot")
    return landing(_described(op, count, first, commit, instant), images, table, whole, whole, {})


def _gone(
    server: Server, session: Any, table: Table, origins: Origins, lander: Lander, commit: int, instant: int
) -> SourceBatch | None:
    """Return the rows of the current table whose keys the snapshot lacks, as deletes; None if it lacks none."""
    names = source_names(table)
    delivered = {names[column.name]: column for column in origins.columns if names.get(column.name) in table.key}
    columns = tuple(delivered[name] for name in table.key)
    wanted = [(table.column(name), kind_of(column.words)) for name, column in zip(table.key, columns, strict=True)]
    present = (key_values(wanted, texts) for texts in _texts(server, session, origins, columns))
    keys = lander.lacking(table, present)
    if not keys:
        return None
    texts = {
        name: pa.array(values, pa.string()) for name, values in zip(table.key, zip(*keys, strict=True), strict=True)
    }
    nothing = pa.nulls(len(keys), pa.string())
    images = [
        Image(
            column.name, names.get(column.name), kind_of(column.words), texts.get(names.get(column.name, ""), nothing)
        )
        for column in origins.columns
    ]
    nobody = np.zeros(len(keys), bool)
    described = _described("delete", len(keys), -len(keys), commit, instant)
    return landing(described, images, table, nobody, ~nobody, {})


def _described(op: str, count: int, first: int, commit: int, instant: int) -> dict[str, pa.Array]:
    """Return what the change table says of so many rows of a copy, the first of which has this place in it."""
    return {
        "cdc_op": pa.repeat(pa.scalar(op), count),
        "cdc_lsn": pa.repeat(pa.scalar(commit, pa.int64()), count),
        "cdc_seq": pa.array(np.arange(first, first + count)),
        "cdc_xid": pa.nulls(count, pa.int64()),
        "cdc_committed_at": pa.repeat(pa.scalar(instant, pa.timestamp("us", tz="UTC")), count),
        "cdc_key_before": pa.nulls(count, pa.string()),
    }
