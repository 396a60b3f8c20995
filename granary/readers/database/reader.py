"""Tables of a database, whole or past a cursor, by one reader or by several, all of one state."""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

import pyarrow as pa

from granary.readers.database.connecting import Database
from granary.readers.database.examination import examine
from granary.readers.database.parallel import interleaved
from granary.readers.database.types import INSTANT, WALL, delivered
from granary.readers.database.values import Field, ZeroDates
from granary.readers.database.window import Overlap, Part, check_zone, origin, ranges, splittable, start_of, wall_time
from granary.sources import validation
from granary.sources.attempt import attempts
from granary.sources.guarantees import Guarantees
from granary.sources.units import SourceBatch, Unit
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from contextlib import AbstractContextManager

    from granary.readers.database.types import SourceColumn
    from granary.sources.spec import Column, Table
    from granary.warehouse.findings import Finding


class Session(Protocol):
    """One connection that sees one state of the database."""

    def columns(self) -> list[SourceColumn]:
        """Return the table's columns."""
        ...

    def extent(self, key: str) -> tuple[int, int] | None:
        """Return the least and the greatest key, None without any."""
        ...

    def rows(self, fields: list[Field], part: Part) -> Generator[SourceBatch, None, None]:
        """Yield the part's rows."""
        ...

    def cancel(self) -> None:
        """Break off what the session is waiting for."""
        ...


class DatabaseReader:
    """Reads tables of one database; `Table.location` is "schema.table" or "table".

    A table with a cursor that is merged or appended is read from its watermark on; any other is read whole. Each load
    of a table sees one state of it, also with several readers.
    """

    guarantees = Guarantees(
        kind="database",
        declared="DatabaseReader",
        command="granary load",
        exactly_once="yes, by key: a window is one transaction, and rows that are read again are merged",
        deletes="in part: where a table is read whole (replace, replace_unit), not behind a cursor",
        order="no: rows have none, and each load sees one state of a table",
        lag="no: the newest cursor value that is loaded is shown",
        page="databases",
        proofs=("database",),
    )

    def __init__(
        self,
        uri: str,
        *,
        overlap: timedelta = timedelta(0),
        overlap_number: int = 0,
        parallel: int = 1,
        zone: str | None = None,
        zero_dates: ZeroDates = "refuse",
        timeout: timedelta = timedelta(hours=6),
    ) -> None:
        """Remember how to connect.

        Args:
            uri: `postgresql://`, `mysql://`, `mariadb://`, `sqlite:///`, `mssql://` or `oracle://`; it may hold a
                password and is never shown.
            overlap: how much before the watermark is read again, for cursors that are times. It must be longer than
                the longest transaction that writes to the tables: rows committed late carry earlier times.
            overlap_number: the same for cursors that are integers, in their own unit.
            parallel: connections that read a table at once, by ranges of its key, when it is read whole.
            zone: the time zone of times without one, for columns that a contract wants as instants.
            zero_dates: "null" makes MySQL's 0000-00-00 null, "refuse" refuses its row.
            timeout: how long one statement may take.
        """
        given = dict(locals())
        validation.arguments(DatabaseReader.__init__, "DatabaseReader", given, secret=("uri",))
        natural = ("overlap", "overlap_number")
        validation.ranges(given, "DatabaseReader", filled=("uri",), positive=("parallel", "timeout"), natural=natural)
        if zone is not None:
            check_zone(zone)
        self.database = Database(uri, timeout)
        self.overlap = Overlap(overlap, overlap_number)
        self.parallel, self.zone, self.zero_dates = parallel, zone, zero_dates

    def units(self, table: Table, watermark: str | None) -> list[Unit]:
        """Return the one window that is to be read: everything, or what is at or past the watermark.

        Raises:
            GranaryError: rows that are read again would be stored again, or the cursor can be none.
        """
        self._check(table)
        start = start_of(table, watermark, self.overlap)
        if table.disposition == "replace_unit":
            return [Unit(table.location, fingerprint=uuid4().hex)]  # all of it takes the place of what was there
        return [Unit(table.location if start is None else f"{table.location} where {table.cursor} >= {start}")]

    def examine(self, tables: Sequence[Table]) -> Iterator[Finding]:
        """Yield what is in the way of reading these tables, and what could be better."""
        found = list(attempts(self, tables))
        yield from found
        if not any(one.severity == "problem" for one in found):
            yield from examine(self.database, tables)

    def _check(self, table: Table) -> None:
        if table.disposition == "append" and not table.key:
            raise GranaryError(
                "a database's rows are read more than once, and without a key they would be stored as often",
                table.location,
                "give the table a key, or read it whole with disposition replace_unit",
            )
        if table.disposition == "replace_unit" and table.cursor:
            raise GranaryError(
                "a cursor needs a disposition that keeps the rows before it", table.location, "use merge, with a key"
            )

    def read(self, table: Table, unit: Unit, watermark: str | None) -> Iterator[SourceBatch]:
        """Yield the window's rows; with several readers, in no particular order.

        Rows at the watermark itself are read again, since others with the same instant may have been committed after
        they were read; merging an unchanged row changes nothing.

        Raises:
            GranaryError: the database does not answer, or stops answering in the middle.
        """
        where = f"{self.database.name}, {unit.name}"
        start = start_of(table, watermark, self.overlap)
        readers = self.parallel if start is None and splittable(table) else 1
        with self._sessions(table, readers, where) as sessions:
            fields = self._fields(table, sessions[0])
            names = tuple(field.name for field in fields)
            cursor = origin(table.column(table.cursor), names) if table.cursor else None
            if cursor and any(field.name == cursor and field.zone for field in fields):
                start = wall_time(start, self.zone or "UTC")
            key = origin(table.column(table.key[0]), names) if len(sessions) > 1 else None
            if cursor is None and start is not None:
                raise GranaryError(f"the source has no column {table.cursor}", where, "check the table's cursor")
            parts = ranges(key, sessions[0].extent(key), len(sessions)) if key else [Part(cursor, start)]
            empty = True
            for source_batch in _stream(sessions, fields, parts):
                empty = False
                yield source_batch
            if empty:
                schema = pa.schema([(field.name, field.type) for field in fields])
                yield SourceBatch(pa.RecordBatch.from_pylist([], schema=schema))

    def _sessions(self, table: Table, number: int, where: str) -> AbstractContextManager[Sequence[Session]]:
        if self.database.dialect == "postgresql":
            from granary.readers.database import postgres  # noqa: PLC0415 - each kind imports only its own

            return postgres.sessions(self.database, table.location, number, where)
        from granary.readers.database import snapshot  # noqa: PLC0415 - half a second, for databases only

        return snapshot.sessions(self.database, table.location, number, where, self.zero_dates)

    def _fields(self, table: Table, session: Session) -> list[Field]:
        """Return the columns to read: all of the source's, or those of a contract that ignores new ones."""
        contract = {name: column for column in table.columns for name in (column.name, *column.aliases)}
        return [
            self._field(found, contract.get(found.name))
            for found in session.columns()
            if found.name in contract or table.new_columns != "ignore"
        ]

    def _field(self, found: SourceColumn, column: Column | None) -> Field:
        wanted = column.type if column else None
        if self.zone and wanted == INSTANT and (found.declared.type == WALL or found.declared.loose):
            return Field(found.name, INSTANT, found.text, found.nullable, self.zone)
        return Field(found.name, delivered(found.declared, wanted), found.text, found.nullable)


def _stream(sessions: Sequence[Session], fields: list[Field], parts: list[Part]) -> Iterator[SourceBatch]:
    """Yield the rows of all parts; each session takes the next part when it is done with one."""
    waiting = deque(parts)

    def work(session: Session) -> Generator[SourceBatch, None, None]:
        while waiting:
            try:
                part = waiting.popleft()
            except IndexError:
                return  # another session was quicker
            yield from session.rows(fields, part)

    if len(sessions) == 1:
        yield from work(sessions[0])
        return

    def cancel() -> None:
        for session in sessions:
            session.cancel()

    yield from interleaved([work(session) for session in sessions], cancel)
