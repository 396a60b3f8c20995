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
"""How long a statement waits for a lock that somebody else has, unless its caller knows better."""
REFUSED = re.compile(r"authentication failed|does not exist|no pg_hba\.conf entry|permission denied")
"""What libpq says, without a code, where to try again cannot help."""
POOLED = "unsupported startup parameter"
"""What a connection pooler says of session settings."""
SESSION = "-c lock_timeout={}s -c granary.person={}"
ASKED = """
select pg_backend_pid(), exists (
    select from pg_namespace where nspname = 'ops' and has_schema_privilege(oid, 'usage')
)
"""
"""The process behind a session, and whether its login may ask what roles are called. People may not: they are one."""
BECOME = "select set_config('role', ops.role_name($1), $2::boolean)"


def connect(
    settings: Settings,
    database: str | None = None,
    *,
    role: str | None = None,
    autocommit: bool = False,
    application: str = "granary",
) -> Connection:
    """Open a connection as the owner, or as `role`.

    On the embedded server the session is the role's own login: whatever code runs in it, `reset role` leads nowhere.
    On an external server it is the login of PGUSER that acts as the role; see docs/engine/access.md.

    Raises:
        TransientError: the server does not answer or refuses the login; nothing of the password is shown.
        GranaryError: a connection pooler answers, and not the server.
    """
    try:
        connection: Connection = Connection.connect(
            settings.uri(database, role, application=application, options=SESSION.format(LOCK_SECONDS, _person())),
            autocommit=autocommit,
            **TCP,
            cursor_factory=RawCursor,
            prepare_threshold=None,  # a prepared plan fails once its table has a column more
        )
    except psycopg.OperationalError as error:
        if POOLED in str(error):
            raise pooled(settings) from None
        advice = _advice(settings)
        if "Peer authentication" in str(error) and not settings.external:
            advice = "work as the system user who started the server, and as its owner or one of its roles"
        where = f"{settings.host}, database {database or settings.database}"
        raise TransientError(f"cannot connect to Postgres: {reason(error)}", where, advice) from None
    connection.settings = settings
    if settings.external:
        try:
            _begin(connection, settings, role)
        except BaseException:
            connection.close()
            raise
    return connection


def _person() -> str:
    """Return who works here, for the audit trail, in letters that an option may have."""
    return re.sub(r"[^\w.:@/+-]", "_", starter())[:100]


def _begin(connection: Connection, settings: Settings, role: str | None) -> None:
    """Act as a role from now on, and see that it is the server who answers: it knows the session by its process."""
    try:
        ((pid, knows),) = query(connection, ASKED)
    except psycopg.errors.ProtocolViolation:  # no server says so to this: a pooler that takes no transactions does
        raise pooled(settings) from None
    if pid != connection.pgconn.backend_pid:
        raise pooled(settings)
    if role and knows:
        query(connection, BECOME, role, "false")
    if not connection.autocommit:
        connection.commit()


def pooled(settings: Settings) -> GranaryError:
    """Return the error for a server behind a pooler, which would hand our role and locks to whoever comes next."""
    return GranaryError(
        "a connection pooler (such as pgbouncer) answers, and not Postgres itself: roles, locks and time limits of a"
        " session would be lost in it, or be somebody else's",
        f"{settings.host}, port {settings.port}",
        "set PGHOST and PGPORT to the server itself; analysts and dashboards may use the pooler",
    )


def connect_arrow(settings: Settings, role: str, *, options: str = "") -> ArrowConnection:
    """Open a connection to the warehouse that is a role for one transaction, to read rows as Arrow from.

    `options` are settings of the session, as libpq takes them.

    Raises:
        GranaryError: as `connect`.
    """
    where = f"{settings.host}, database {settings.database}"
    connection = connect_uri(settings.uri(role=role, options=options), where, _advice(settings))
    if settings.external and query(connection, ASKED)[0][1]:
        query(connection, BECOME, role, "true")
    return connection


def _advice(settings: Settings) -> str:
    """Return what to do where the server does not answer."""
    return "check the PG* variables" if settings.external else "start it with `granary up`"


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


def ensure_database(settings: Settings, name: str, *, private: bool = False) -> bool:
    """Create the database if it is missing; return whether it was created. PUBLIC may not enter a `private` one.

    Where it exists nothing is asked of any other database: an administrator may have made it, and closed those.

    Raises:
        GranaryError: the login may not create databases, or the server cannot.
    """
    is_new = not _exists(settings, name) and _create_database(settings, name)
    if private:
        with connect(settings, name) as connection:
            if query(connection, "select has_database_privilege('public', current_database(), 'connect')")[0][0]:
                execute(connection, f"revoke all on database {quote_name(name)} from public")
                connection.commit()
    return is_new


def _exists(settings: Settings, name: str) -> bool:
    refused = None
    if settings.external:
        try:
            connect(settings, name).close()
        except TransientError as error:
            refused = error
        else:
            return True
    with connect(settings, "postgres") as connection:
        is_there = bool(query(connection, "select 1 from pg_database where datname = $1", name))
    if is_there and refused:
        raise refused
    return is_there


def _create_database(settings: Settings, name: str) -> bool:
    with connect(settings, "postgres", autocommit=True) as connection:
        try:
            execute(connection, f"create database {quote_name(name)}")
        except psycopg.errors.InsufficientPrivilege:
            raise GranaryError(
                f"the login {settings.user} may not create the database {name}",
                settings.host,
                "have an administrator run what `granary roles script` prints, or:"
                f" create database {quote_name(name)} owner {quote_name(settings.user)}",
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
