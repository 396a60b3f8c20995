"""What is in a database, for people and commands that write contracts from it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from granary.readers.database.connecting import Database, quoted
from granary.readers.database.shapes import ColumnShape, TableShape, cursor_candidates
from granary.readers.database.types import SourceColumn, of_sqlalchemy

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import ReflectedColumn

PATIENCE = timedelta(minutes=1)


def describe(uri: str, schema: str | None = None) -> list[TableShape]:
    """Return the tables and views of a database, in order of their names.

    Args:
        uri: `postgresql://`, `mysql://`, `mariadb://`, `sqlite:///`, `mssql://` or `oracle://`; never shown.
        schema: only this one; without it, all that are not the system's in Postgres, else the login's own.

    Raises:
        GranaryError: the database does not answer, its driver is missing, or there is no reader for its kind.
    """
    database = Database(uri, PATIENCE)
    if database.dialect == "postgresql":
        from granary.readers.database import postgres  # noqa: PLC0415 - each kind imports only its own

        return postgres.describe(database, schema)
    from sqlalchemy import inspect  # noqa: PLC0415

    with database.session(database.engine(), database.name) as connection:
        inspector: Any = inspect(connection)
        rows = _estimates(connection, schema)
        folded = _folded(connection, schema)
        views = set(inspector.get_view_names(schema=schema))
        shapes = []
        for name in sorted({*inspector.get_table_names(schema=schema), *views}):
            key = () if name in views else _key(inspector, name, schema)
            columns = tuple(
                # A key is never null, whatever SQLite lets in.
                ColumnShape(
                    c.name,
                    c.declared.type,
                    c.nullable and c.name not in key,
                    c.text,
                    c.comment,
                    folded.get((name.lower(), c.name.lower())),
                )
                for c in source_columns(connection, inspector.get_columns(name, schema=schema))
            )
            shapes.append(
                TableShape(
                    schema=schema,
                    name=name,
                    columns=columns,
                    key=key,
                    rows=None if name in views else _rows(connection, rows, name),
                    cursors=cursor_candidates(columns),
                    is_view=name in views,
                )
            )
        return shapes


def source_columns(connection: Connection, reflected: list[ReflectedColumn]) -> list[SourceColumn]:
    """Return reflected columns in our terms."""
    return [
        SourceColumn(
            column["name"],
            of_sqlalchemy(column["type"], connection.dialect.name),
            _declared(column),
            bool(column["nullable"]),
            column.get("comment"),
        )
        for column in reflected
    ]


def _declared(column: ReflectedColumn) -> str:
    """Return the declared type's text, with MySQL's promise to keep the time of the last change."""
    kind = str(column["type"]).lower()
    return f"{kind} on update" if "on update" in str(column.get("default") or "").lower() else kind


def _key(inspector: Any, name: str, schema: str | None) -> tuple[str, ...]:
    return tuple(inspector.get_pk_constraint(name, schema=schema).get("constrained_columns") or ())


ESTIMATES = {
    "mysql": "select table_name, table_rows from information_schema.tables"
    " where table_schema = coalesce(:schema, database())",
    "mssql": "select t.name, sum(p.rows) from sys.tables as t"
    " inner join sys.partitions as p on p.object_id = t.object_id and p.index_id in (0, 1)"
    " where schema_name(t.schema_id) = coalesce(:schema, schema_name()) group by t.name",
    "oracle": "select lower(table_name), num_rows from all_tables"
    " where owner = upper(coalesce(:schema, sys_context('userenv', 'current_schema')))",
}
"""The planner's statistics of all tables at once: free, and off by some percent."""


FOLDED = {
    "mysql": "select table_name, column_name, collation_name from information_schema.columns"
    " where table_schema = coalesce(:schema, database()) and collation_name like '%\\_ci'",
    "mssql": "select table_name, column_name, collation_name from information_schema.columns"
    " where table_schema = coalesce(:schema, schema_name()) and collation_name like '%[_]CI[_]%'",
}
"""Columns of text of which 'a' and 'A' are equal."""


def _folded(connection: Connection, schema: str | None) -> dict[tuple[str, str], str]:
    from sqlalchemy import text  # noqa: PLC0415

    sql = FOLDED.get("mysql" if connection.dialect.name == "mariadb" else connection.dialect.name)
    found: Any = connection.execute(text(sql), {"schema": schema}) if sql else ()
    return {(str(of).lower(), str(name).lower()): str(rule) for of, name, rule in found}


def _estimates(connection: Connection, schema: str | None) -> dict[str, int | None]:
    from sqlalchemy import text  # noqa: PLC0415

    sql = ESTIMATES.get("mysql" if connection.dialect.name == "mariadb" else connection.dialect.name)
    found: Any = connection.execute(text(sql), {"schema": schema}) if sql else ()
    return {str(name): None if rows is None else int(rows) for name, rows in found}


def _rows(connection: Connection, estimates: dict[str, int | None], name: str) -> int | None:
    """Return the estimate; in SQLite, which keeps none, the count: its files are small and near."""
    if connection.dialect.name != "sqlite":
        return estimates.get(name)
    table = quoted(connection.dialect, None, name)
    return int(connection.exec_driver_sql(f"select count(*) from {table}").scalar_one())
