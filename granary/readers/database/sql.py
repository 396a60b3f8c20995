"""Databases other than Postgres, through SQLAlchemy: server-side cursors, columns built from rows."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from granary.readers.database.connecting import MYSQL, quoted
from granary.readers.database.describe import source_columns
from granary.readers.database.types import INSTANT
from granary.readers.database.values import source_batch_of
from granary.readers.database.window import as_utc

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import Connection, Dialect, Select

    from granary.readers.database.connecting import Database
    from granary.readers.database.types import SourceColumn
    from granary.readers.database.values import Field, ZeroDates
    from granary.readers.database.window import Part
    from granary.sources.units import SourceBatch

ROWS = 8192
"""Rows that are turned into a batch at a time."""


@dataclass(frozen=True)
class Session:
    """One connection that sees one state of the database; for Oracle, that of the change number `scn`."""

    database: Database
    connection: Connection
    location: str
    where: str
    zero_dates: ZeroDates = "refuse"
    scn: int | None = None

    def columns(self) -> list[SourceColumn]:
        """Return the table's columns."""
        from sqlalchemy import inspect  # noqa: PLC0415

        schema, _, name = self.location.rpartition(".")
        with self.database.errors(self.where):
            reflected = inspect(self.connection).get_columns(name, schema=schema or None)
            return source_columns(self.connection, reflected)

    def extent(self, key: str) -> tuple[int, int] | None:
        """Return the least and the greatest key, None without any."""
        from sqlalchemy import column, func, select  # noqa: PLC0415

        found: Any = select(func.min(column(key)), func.max(column(key))).select_from(self._source())
        with self.database.errors(self.where):
            low, high = cast("tuple[Any, Any]", self.connection.execute(found).one())
        return None if low is None else (int(low), int(high))

    def rows(self, fields: list[Field], part: Part) -> Generator[SourceBatch, None, None]:
        """Yield the part's rows."""
        query = select_part(self.connection.dialect, self._source(), fields, part)
        with self.database.errors(self.where):
            options = {"stream_results": True, "max_row_buffer": ROWS}
            result = self.connection.execution_options(**options).execute(query)
            try:
                while rows := result.fetchmany(ROWS):
                    made = source_batch_of(fields, rows, self.zero_dates)
                    yield replace(made, batch=_shortest(made.batch, fields)) if self.database.is_mysql else made
            finally:
                abandon(result.cursor)

    def cancel(self) -> None:
        """Break off what the session is waiting for."""
        with suppress(Exception):
            session: Any = self.connection.connection.dbapi_connection
            if self.database.dialect == "sqlite":
                session.interrupt()
            elif self.database.dialect == "oracle":
                session.cancel()
            elif self.database.is_mysql:
                with self.database.session(self.database.engine(), self.where) as other:
                    other.exec_driver_sql(f"kill query {int(session.thread_id())}")

    def _source(self) -> Any:
        schema, _, name = self.location.rpartition(".")
        return source(self.connection.dialect, schema or None, name, self.scn)


def abandon(cursor: Any) -> None:
    """Let MySQL's driver forget the rest of a result; without this it reads all of it, from a closed connection too."""
    unread: Any = getattr(cursor, "_result", None)
    if hasattr(unread, "unbuffered_active"):
        unread.unbuffered_active = False


def source(dialect: Dialect, schema: str | None, name: str, scn: int | None) -> Any:
    """Return what to select from: the table, or in Oracle its state at a change number."""
    from sqlalchemy import text  # noqa: PLC0415

    table = quoted(dialect, schema, name).replace(":", r"\:")
    return text(table) if scn is None else text(f"{table} as of scn :scn").bindparams(scn=scn)


def select_part(dialect: Dialect, table: Any, fields: list[Field], part: Part) -> Select[Any]:
    """Return the query of a part, with its values bound."""
    from sqlalchemy import and_, column, func, literal, literal_column, or_, select  # noqa: PLC0415

    by_name = {field.name: field for field in fields}
    chosen: list[Any] = []
    for field in fields:
        item: Any = column(field.name)
        if dialect.name == "oracle" and field.type == INSTANT and field.zone is None:
            # The driver leaves the zone of a time out, so the server takes it to UTC.
            item = func.sys_extract_utc(item).label(field.name)
        if dialect.name in MYSQL and field.declared.startswith("float"):
            # As text a float has six digits, 1234567.9 would be 1234570.
            item = (item * literal_column("1e0")).label(field.name)
        chosen.append(item)
    conditions: list[Any] = []
    if part.cursor and part.start is not None:
        name = part.cursor
        conditions.append(_from(dialect, part, by_name[name]))
        if by_name[name].nullable:  # a row without the time of its last change is read each time, rather than never
            conditions = [or_(*conditions, column(name).is_(None))]
    if part.key:
        if part.low is not None:
            conditions.append(column(part.key) >= literal(part.low))
        if part.high is not None:
            below = column(part.key) < literal(part.high)
            first = part.low is None and by_name[part.key].nullable
            conditions.append(or_(below, column(part.key).is_(None)) if first else below)
    found = select(*chosen).select_from(table)
    return found.where(and_(*conditions)) if conditions else found


def _shortest(batch: pa.RecordBatch, fields: list[Field]) -> pa.RecordBatch:
    """Return rows of MySQL with each float as the shortest number that is the same, as a capture has it: 1.1."""
    for place, field in enumerate(fields):
        if field.declared.startswith("float") and pa.types.is_floating(field.type):
            found = batch.column(place).cast(pa.float32()).cast(pa.string()).cast(field.type)
            batch = batch.set_column(place, pa.field(field.name, field.type), found)
    return batch


def _from(dialect: Dialect, part: Part, field: Field) -> Any:
    """Return the condition that a row is at or past the start."""
    from datetime import date, timedelta  # noqa: PLC0415

    from sqlalchemy import column, func, literal, or_  # noqa: PLC0415

    item: Any = column(field.name)
    start: Any = as_utc(part.start)
    if dialect.name == "sqlite" and isinstance(start, date):
        # Times are text in SQLite, and written in several ways (a blank or a T, fractions, offsets). They agree on
        # the date in front; a day earlier covers every offset. What is not text is read too, and judged as a value.
        day = (start - timedelta(days=1)).isoformat()[:10]
        return or_(func.typeof(item) != "text", item >= day)
    if dialect.name == "oracle" and field.type == INSTANT and field.zone is None:
        return item >= func.from_tz(literal(start), "UTC")
    return item >= literal(start)
