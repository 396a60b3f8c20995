"""Connections to the warehouse, one transaction at a time; and to other Postgres servers, whose rows come as Arrow."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psycopg
from adbc_driver_manager import OperationalError, ProgrammingError
from psycopg.raw_cursor import RawCursor

from granary.warehouse.arrow_driver import ArrowConnection, dbapi
from granary.warehouse.database_errors import safe_text
from granary.warehouse.errors import GranaryError, TransientError
from granary.warehouse.person import starter
from granary.warehouse.waits import TCP, Connection, LockHeldError

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

__all__ = [
    "ArrowConnection",
    "Connection",
    "LockHeldError",
    "columns_of",
    "connect",
    "connect_uri",
    "count",
    "ensure_database",
    "execute",
    "failure",
    "lock",
    "query",
    "quote_name",
    "quote_relation",
    "reason",
]


LOCK_SECONDS = 60
REFUSED = re.compile(r"authentication failed|does not exist|no pg_hba\.conf entry|permission denied")
"""What libpq says, without a code, where to try again cannot help."""
"""How long a statement waits for a lock that somebody else has, unless its caller knows better."""


def connect(
    settings: Settings, database: str | None = None, *, role: str | None = None, autocommit: bool = False
) -> Connection:
    """Open a connection as the owner, or as `role`.

    On the embedded server the session is the role's own login: whatever code runs in it, `reset role` leads nowhere.
    On an external server it is the login of PGUSER that acts as the role; see docs/engine/access.md.

    Raises:
        TransientError: the server does not answer or refuses the login; nothing of the password is shown.
    """
    try:
        connection: Connection = Connection.connect(
            settings.uri(database, role),
            autocommit=autocommit,
            options=f"-c lock_timeout={LOCK_SECONDS}s -c granary.person={_person()}",
            **TCP,
            cursor_factory=RawCursor,
            prepare_threshold=None,  # a prepared plan fails once its table has a column more
        )
    except psycopg.OperationalError as error:
        todo = "check the PG* variables" if settings.external else "start it with `granary up`"
        if "Peer authentication" in str(error) and not settings.external:
            todo = "work as the system user who started the server, and as its owner or one of its roles"
        where = f"{settings.host}, database {database or settings.database}"
        raise TransientError(f"cannot connect to Postgres: {reason(error)}", where, todo) from None
    connection.settings = settings
    if role and settings.external:
        execute(connection, f"set role {quote_name(role)}")
        if not autocommit:
            connection.commit()
    return connection


def _person() -> str:
    """Return who works here, for the audit trail, in letters that an option may have."""
    return re.sub(r"[^\w.:@/+-]", "_", starter())[:100]


def connect_uri(uri: str, where: str, todo: str, *, autocommit: bool = False) -> ArrowConnection:
    """Open a connection to any Postgres by its libpq URI, to read rows as Arrow from.

    Raises:
        GranaryError: with this `where` and `todo`, if the server does not answer or refuses the login.
    """
    try:
        connection: ArrowConnection = dbapi.connect(uri, autocommit=autocommit)
    except (OperationalError, ProgrammingError) as error:
        kind = GranaryError if REFUSED.search(str(error)) else TransientError
        raise kind(f"cannot connect to Postgres: {reason(error)}", where, todo) from None
    return connection


def reason(error: Exception) -> str:
    """Return the server's own words of a driver error, on one line, without connection string and values of rows."""
    text = " ".join(safe_text(error).split())
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


def quote_relation(schema: str, name: str) -> str:
    """Return a qualified relation name as SQL; see `quote_name` for what it refuses."""
    return f"{quote_name(schema)}.{quote_name(name)}"


def execute(connection: Connection | ArrowConnection, sql: str, *parameters: object) -> None:
    """Run one statement, with $1-style parameters."""
    with _cursor(connection) as cursor:
        cursor.execute(sql, parameters or None)


def query(connection: Connection | ArrowConnection, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Run one query, with $1-style parameters, and return its rows."""
    with _cursor(connection) as cursor:
        cursor.execute(sql, parameters or None)
        return list(cursor.fetchall())


def count(connection: Connection, sql: str) -> int:
    """Run a data-changing statement without parameters and return how many rows it touched."""
    with _cursor(connection) as cursor:
        cursor.execute(sql)
        return int(cursor.rowcount)


def lock(connection: Connection, name: str, seconds: float) -> None:
    """Hold the lock `name` until the end of the transaction.

    It is a row of a table in ops, where analysts have no rights: an advisory lock could be taken by anybody.

    Raises:
        LockHeldError: somebody else has held it for so many seconds.
    """
    execute(connection, f"set local lock_timeout = {int(seconds * 1000)}")
    execute(connection, "insert into ops.locks (name) values ($1) on conflict do nothing", name)
    execute(connection, "select from ops.locks where name = $1 for update", name)
    execute(connection, f"set local lock_timeout = '{LOCK_SECONDS}s'")


def columns_of(connection: Connection, relation: str) -> dict[str, str]:
    """Return the columns of a relation (as SQL) with their Postgres types, in order; nothing if it is missing."""
    found = query(
        connection,
        "select attname::text, format_type(atttypid, atttypmod) from pg_attribute"
        " where attrelid = to_regclass($1) and attnum > 0 and not attisdropped order by attnum",
        relation,
    )
    return {str(name): str(kind) for name, kind in found}


def _cursor(connection: Connection | ArrowConnection) -> Any:
    """Return a cursor of either driver; psycopg's types want SQL that is written out in the source."""
    return connection.cursor()


def ensure_database(settings: Settings, name: str) -> bool:
    """Create the database if it is missing; return whether it was created.

    Raises:
        GranaryError: the login may not create databases, or the server cannot.
    """
    with connect(settings, "postgres", autocommit=True) as connection:
        if query(connection, "select 1 from pg_database where datname = $1", name):
            return False
        try:
            execute(connection, f"create database {quote_name(name)}")
        except psycopg.errors.InsufficientPrivilege:
            raise GranaryError(
                f"the login {settings.user} may not create the database {name}",
                settings.host,
                f"have an administrator run: create database {quote_name(name)} owner {quote_name(settings.user)}",
            ) from None
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
            return False  # another process was quicker
        except psycopg.Error as error:
            raise failure(error, settings.host) from None
        return True


def failure(error: psycopg.Error, where: str) -> GranaryError:
    """Return the user-facing error for an unexpected error of the warehouse."""
    words = reason(error)
    if isinstance(error, psycopg.errors.DiskFull):
        return GranaryError(f"the warehouse's disk is full: {words}", where, "free some space and run this again")
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return GranaryError(f"the warehouse refuses it: {words}", where, "ask who administers it for that right")
    if isinstance(error, psycopg.OperationalError):
        return GranaryError(
            f"the connection to the warehouse broke: {words}",
            where,
            "check that it is up (`granary up`) and run this again",
        )
    return GranaryError(f"the warehouse refuses it: {words}", where, "fix that and run this again")
