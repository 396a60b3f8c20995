"""What could be better at a source database: its clock, indexes on cursors, and a login that may do too much."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from granary.sources.attempt import clock
from granary.warehouse.connection import connect_uri, query, quote_name
from granary.warehouse.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from granary.readers.database.connecting import Database
    from granary.sources.spec import Table

CLOCKS = {
    "mysql": "select unix_timestamp(now(6))",
    "mariadb": "select unix_timestamp(now(6))",
    "mssql": "select datediff_big(millisecond, '1970-01-01', sysutcdatetime()) / 1000.0",
    "oracle": "select (cast(sys_extract_utc(systimestamp) as date) - date '1970-01-01') * 86400 from dual",
}
"""Seconds since 1970 by the clock of a server; a file of SQLite has ours."""

POSTGRES = """
select
    extract(epoch from clock_timestamp())::float8,
    pg_is_in_recovery() and current_setting('hot_standby_feedback') = 'off'
"""
LEADS = """
select exists (
    select from pg_index as i inner join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = $1::text::regclass and i.indisvalid and a.attname = $2
)
"""
MAY_WRITE = "select has_table_privilege($1::text::regclass, 'insert, update, delete, truncate')"


def examine(database: Database, tables: Sequence[Table]) -> Iterator[Finding]:
    """Yield what could be better.

    Raises:
        GranaryError: the database does not answer.
    """
    yield from _postgres(database, tables) if database.dialect == "postgresql" else _other(database, tables)


def _postgres(database: Database, tables: Sequence[Table]) -> Iterator[Finding]:
    with closing(connect_uri(database.libpq, database.name, "check the source's URI", autocommit=True)) as connection:
        ((now, cancelled),) = query(connection, POSTGRES)
        yield from clock(database.name, float(now))
        if cancelled:
            yield Finding(
                "the source is a standby that may cancel long reads",
                database.name,
                "hot_standby_feedback = off",
                "set hot_standby_feedback = on there, or read from the primary",
                "hint",
            )
        for table in tables:
            name = ".".join(map(quote_name, table.location.split(".")))
            if query(connection, MAY_WRITE, name)[0][0]:
                yield _may_write(table)
            if table.cursor and not any(query(connection, LEADS, name, one)[0][0] for one in _delivered(table)):
                yield _unindexed(table)


def _other(database: Database, tables: Sequence[Table]) -> Iterator[Finding]:
    from sqlalchemy import inspect, text  # noqa: PLC0415 - half a second, for databases only

    engine = database.engine()
    with database.session(engine, database.name) as connection, database.errors(database.name):
        if sql := CLOCKS.get(database.dialect):
            yield from clock(database.name, float(connection.execute(text(sql)).scalar_one()))
        inspector = inspect(connection)
        for table in tables:
            if not table.cursor:
                continue
            schema, _, name = table.location.rpartition(".")
            indexes = inspector.get_indexes(name, schema or None)
            leading = {one["column_names"][0] for one in indexes if one["column_names"]}
            leading |= set(inspector.get_pk_constraint(name, schema or None)["constrained_columns"][:1])
            if not leading & set(_delivered(table)):
                yield _unindexed(table)


def _delivered(table: Table) -> tuple[str, ...]:
    """Return the names under which a table's cursor may be delivered."""
    assert table.cursor
    return (table.cursor, *table.column(table.cursor).aliases)


def _unindexed(table: Table) -> Finding:
    todo = f"have the source's owner index {table.cursor}: each load reads the whole table to find what is new"
    return Finding(f"no index begins with the cursor {table.cursor}", table.name, table.location, todo, "hint")


def _may_write(table: Table) -> Finding:
    todo = "give the source's login `select` on it and nothing else"
    return Finding("our login may write to the table", table.name, table.location, todo, "hint")
