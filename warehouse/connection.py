"""Connections to the warehouse: Arrow in, Arrow out, one transaction at a time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from adbc_driver_manager import OperationalError, ProgrammingError
from adbc_driver_manager.dbapi import Connection as Connection  # noqa: PLC0414 - ours to hand out
from adbc_driver_postgresql import dbapi

from warehouse.errors import GranaryError

if TYPE_CHECKING:
    from warehouse.settings import Settings


def connect(
    settings: Settings, database: str | None = None, *, role: str | None = None, autocommit: bool = False
) -> Connection:
    """Open a connection as the owner, or acting as `role` from the first statement on.

    Raises:
        GranaryError: the server does not answer or refuses the login; nothing of the password is shown.
    """
    return connect_uri(
        settings.uri(database),
        f"{settings.host}, database {database or settings.database}",
        "check the PG* variables" if settings.external else "start it with `granary up`",
        role=role,
        autocommit=autocommit,
    )


def connect_uri(uri: str, where: str, todo: str, *, role: str | None = None, autocommit: bool = False) -> Connection:
    """Open a connection to any Postgres by its libpq URI; `where` and `todo` are for the error a person reads."""
    try:
        connection: Connection = dbapi.connect(uri, autocommit=autocommit)
    except (OperationalError, ProgrammingError) as error:
        raise GranaryError(f"Postgres does not let us in: {reason(error)}", where, todo) from None
    if role:
        execute(connection, f"set role {quote_name(role)}")
        if not autocommit:
            connection.commit()
    return connection


def reason(error: Exception) -> str:
    """Return the server's own words of a driver error, on one line, without the connection string."""
    text = " ".join(str(error).split())
    for mark in ("FATAL: ", "ERROR: ", "[libpq] "):
        if mark in text:
            text = text.rpartition(mark)[2]
            break
    return re.sub(r"\s*\.? SQLSTATE: \w+$", "", text).strip()[:400]


def quote_name(name: str) -> str:
    """Return `name` as a quoted SQL identifier.

    Raises:
        GranaryError: it is empty, holds a NUL byte, or is longer than Postgres keeps (63 bytes).
    """
    if not name or "\0" in name or len(name.encode()) > 63:  # noqa: PLR2004 - NAMEDATALEN - 1
        raise GranaryError(f"{name[:80]!r} cannot be a name in Postgres", todo="use 1 to 63 bytes without NUL")
    return '"' + name.replace('"', '""') + '"'


def execute(connection: Connection, sql: str, *parameters: object) -> None:
    """Run one statement, with $1-style parameters."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)


def query(connection: Connection, sql: str, *parameters: object) -> list[tuple[object, ...]]:
    """Run one query, with $1-style parameters, and return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters or None)
        return list(cursor.fetchall())


def count(connection: Connection, sql: str) -> int:
    """Run a data-changing statement without parameters and return how many rows it touched."""
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return int(cursor.rowcount)


def ensure_database(settings: Settings, name: str) -> bool:
    """Create the database if it is missing; return whether it was created."""
    with connect(settings, "postgres", autocommit=True) as connection:
        if query(connection, "select 1 from pg_database where datname = $1", name):
            return False
        execute(connection, f"create database {quote_name(name)}")
        return True
