"""Postgres as a source: its catalogue, and its rows by binary COPY."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import groupby
from typing import TYPE_CHECKING

import pyarrow as pa
from adbc_driver_manager import Error as DriverError

from granary.readers.database.arrow import source_batch_of
from granary.readers.database.connecting import ADVICE
from granary.readers.database.shapes import ColumnShape, TableShape, cursor_candidates
from granary.readers.database.types import POSTGRES, SourceColumn, base, of_postgres
from granary.warehouse.connection import connect_uri, execute, query, quote_name, reason
from granary.warehouse.errors import GranaryError, TransientError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from granary.readers.database.connecting import Database
    from granary.readers.database.values import Field
    from granary.readers.database.window import Part, Start
    from granary.sources.units import SourceBatch
    from granary.warehouse.connection import ArrowConnection

NO_TABLE = "42P01"
NO_RIGHT = "42501"
REFUSED = "42"
"""The class of what is not allowed or not there: https://www.postgresql.org/docs/current/errcodes-appendix.html"""
RIGHTS = "check the rights of the login and the table's contract; nothing of this load has landed"

CATALOGUE = """
select
    n.nspname::text, c.relname::text, c.relkind in ('v', 'm'), c.reltuples::bigint, obj_description(c.oid, 'pg_class'),
    a.attname::text,
    case t.typtype when 'd' then format_type(t.typbasetype, t.typtypmod) else format_type(a.atttypid, a.atttypmod) end,
    not a.attnotnull, col_description(c.oid, a.attnum),
    array_position(i.indkey::smallint[], a.attnum)::int
from pg_class as c
inner join pg_namespace as n on n.oid = c.relnamespace
inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
inner join pg_type as t on t.oid = a.atttypid
left join pg_index as i on i.indrelid = c.oid and i.indisprimary
where
    c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
    and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname !~ '^pg_(toast|temp)'
    and ($1::text is null or n.nspname = $1) and has_table_privilege(c.oid, 'select')
order by n.nspname, c.relname, a.attnum
"""


COLUMNS = """
select
    a.attname::text,
    case t.typtype when 'd' then format_type(t.typbasetype, t.typtypmod) else format_type(a.atttypid, a.atttypmod) end,
    not a.attnotnull
from pg_attribute as a inner join pg_type as t on t.oid = a.atttypid
where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum
"""


@dataclass(frozen=True)
class Session:
    """One connection that sees one state of the database."""

    connection: ArrowConnection
    table: str
    where: str
    busy: threading.Event = field(default_factory=threading.Event)
    """Set while a thread is inside of the driver, waiting for the server."""
    left: threading.Event = field(default_factory=threading.Event)
    """Set when that thread is to close the connection itself, once it comes back."""

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what the driver raises into an error that a person can act on."""
        try:
            yield
        except (DriverError, OSError, pa.ArrowException) as error:  # an Arrow stream has errors of its own
            state = str(getattr(error, "sqlstate", None) or "")
            if state == NO_TABLE:
                raise GranaryError(
                    f"the source database has no table: {reason(error)}", self.where, "check the table's location"
                ) from None
            if state == NO_RIGHT:
                words, schema = reason(error), self.table.rpartition(".")[0]
                right = f"usage on schema {schema}" if "schema" in words else f"select on {self.table}"
                todo = f"have its owner run `grant {right} to` our login there; nothing of this load has landed"
                raise GranaryError(f"the source database refuses: {words}", self.where, todo) from None
            if state.startswith(REFUSED):
                raise GranaryError(f"the source database refuses: {reason(error)}", self.where, RIGHTS) from None
            raise TransientError(
                f"the source database stopped answering: {reason(error)}", self.where, ADVICE
            ) from None

    def columns(self) -> list[SourceColumn]:
        """Return the table's columns."""
        with self.errors():
            found = query(self.connection, COLUMNS, self.table)
        return [
            SourceColumn(str(name), of_postgres(str(kind)), str(kind), bool(nullable)) for name, kind, nullable in found
        ]

    def extent(self, key: str) -> tuple[int, int] | None:
        """Return the least and the greatest key, None without any."""
        name = quote_name(key)
        with self.errors():
            low, high = query(self.connection, f"select min({name})::bigint, max({name})::bigint from {self.table}")[0]
        return None if low is None else (int(str(low)), int(str(high)))

    def rows(self, fields: list[Field], part: Part) -> Generator[SourceBatch, None, None]:
        """Yield the part's rows."""
        try:
            for batch in self._batches(select(self.table, fields, part)):
                yield source_batch_of(fields, batch)
        finally:
            if self.left.is_set():
                self.connection.close()

    def _batches(self, sql: str) -> Iterator[pa.RecordBatch]:
        with self.errors(), self.connection.cursor() as cursor:
            with self._waiting():
                cursor.execute(sql)
                batches = cursor.fetch_record_batch()
            while True:
                with self._waiting():
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        self.busy.set()
        try:
            yield
        finally:
            self.busy.clear()

    def cancel(self) -> None:
        """Break off what the session is waiting for."""
        with suppress(Exception):
            self.connection.adbc_cancel()

    def close(self) -> None:
        """Close the connection; a thread that hangs in it does so later, as it still works with what would be freed."""
        if self.busy.is_set():
            self.left.set()
            return
        with suppress(Exception):
            self.connection.close()


@contextmanager
def sessions(database: Database, location: str, number: int, where: str) -> Iterator[list[Session]]:
    """Open read-only sessions that all see the state of one instant.

    The first exports its snapshot and the others take it over:
    https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-SNAPSHOT-SYNCHRONIZATION
    """
    table = ".".join(quote_name(part) for part in location.rpartition(".")[::2] if part)
    with ExitStack() as stack:
        opened: list[Session] = []
        snapshot = ""
        for place in range(number):
            connection = connect_uri(database.libpq, where, ADVICE)
            session = Session(connection, table, where)
            stack.callback(session.close)
            with session.errors():
                execute(connection, "set transaction isolation level repeatable read, read only")
                if place:
                    execute(connection, f"set transaction snapshot '{snapshot}'")
                execute(connection, f"set local statement_timeout = {int(database.timeout.total_seconds() * 1000)}")
                if number > 1 and not place:
                    snapshot = str(query(connection, "select pg_export_snapshot()")[0][0])
            opened.append(session)
        yield opened


def select(table: str, fields: list[Field], part: Part) -> str:
    """Return the query of a part.

    COPY takes no parameters, so the two kinds of values are written into it: integers, and times that Python writes.
    """
    chosen = []
    for each in fields:
        name = quote_name(each.name)
        if each.declared == "oid":
            chosen.append(f"{name}::bigint as {name}")
        else:
            chosen.append(name if base(each.declared) in POSTGRES else f"{name}::text as {name}")
    conditions = []
    nullable = {each.name for each in fields if each.nullable}
    if part.cursor and part.start is not None:
        name = quote_name(part.cursor)
        condition = f"{name} >= {literal(part.start)}"
        # A row without the time of its last change is read each time, rather than never.
        conditions.append(f"({condition} or {name} is null)" if part.cursor in nullable else condition)
    if part.key:
        name = quote_name(part.key)
        if part.low is not None:
            conditions.append(f"{name} >= {int(part.low)}")
        if part.high is not None:
            condition = f"{name} < {int(part.high)}"
            first = part.low is None and part.key in nullable
            conditions.append(f"({condition} or {name} is null)" if first else condition)
    where = f" where {' and '.join(conditions)}" if conditions else ""
    return f"select {', '.join(chosen)} from {table}{where}"


def literal(start: Start) -> str:
    """Return a cursor's value in SQL."""
    if isinstance(start, datetime):
        return f"'{start.isoformat()}'::{'timestamptz' if start.tzinfo else 'timestamp'}"
    return f"'{start.isoformat()}'::date" if isinstance(start, date) else str(int(start))


def describe(database: Database, schema: str | None) -> list[TableShape]:
    """Return the tables and views that the login may read; partitions count as their parent."""
    with connect_uri(database.libpq, database.name, ADVICE) as connection:
        found = query(connection, CATALOGUE, schema)
    shapes = []
    for (namespace, name, is_view, rows, comment), members in groupby(found, key=lambda row: row[:5]):
        each = list(members)
        columns = tuple(
            ColumnShape(
                str(row[5]),
                of_postgres(str(row[6])).type,
                bool(row[7]),
                str(row[6]),
                None if row[8] is None else str(row[8]),
            )
            for row in each
        )
        places = {int(str(row[9])): str(row[5]) for row in each if row[9] is not None}
        shapes.append(
            TableShape(
                schema=str(namespace),
                name=str(name),
                columns=columns,
                key=tuple(places[place] for place in sorted(places)),
                rows=int(str(rows)) if int(str(rows)) >= 0 and not is_view else None,
                cursors=cursor_candidates(columns),
                comment=None if comment is None else str(comment),
                is_view=bool(is_view),
            )
        )
    return shapes
