"""Connections to source databases: read only, with time limits, and with errors that show no password."""

from __future__ import annotations

import re
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from granary.warehouse.database_errors import plain
from granary.warehouse.errors import GranaryError, TransientError
from granary.warehouse.waits import TCP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL, Connection, Dialect, Engine

CONNECT_SECONDS = 10
LOGIN_SECONDS = 30
"""How long it may take until there is a session, where the driver itself has no limit for that."""
SILENCE_SECONDS = 300
"""How long a server may send nothing in the middle of an answer before the load gives it up."""
ADVICE = "check that the source database is up, then load again; nothing of this load has landed"

MYSQL = ("mysql", "mariadb")
GEOMETRIES = (
    "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection",
)  # fmt: skip
"""MySQL's types whose values are bytes."""
LIBPQ = {**TCP, "connect_timeout": CONNECT_SECONDS, "application_name": "granary"}
DRIVERS = {"mysql": "pymysql", "mariadb": "pymysql", "mssql": "pymssql", "oracle": "oracledb", "sqlite": "sqlite3"}
"""The driver that a URI without one gets: `mysql://` is `mysql+pymysql://`."""


@dataclass(frozen=True)
class Database:
    """A source database by its URI, which may hold a password: it is in no repr and in no error."""

    uri: str
    timeout: timedelta

    def __repr__(self) -> str:
        """Show where it is, without the login."""
        return f"Database({self.dialect}, {self.name})"

    @property
    def dialect(self) -> str:
        """postgresql, mysql, mariadb, sqlite, mssql or oracle."""
        scheme = urlsplit(self.uri).scheme.partition("+")[0].lower()
        return "postgresql" if scheme == "postgres" else scheme

    @property
    def is_mysql(self) -> bool:
        """Whether it is a MySQL or a MariaDB."""
        return self.dialect in MYSQL

    @property
    def name(self) -> str:
        """What to call it in an error."""
        parts = urlsplit(self.uri)
        name = parts.path.lstrip("/") or "database"
        return Path(name).name if self.dialect == "sqlite" else name

    @property
    def libpq(self) -> str:
        """The URI as libpq takes it; what it leaves open is set so that a server that is gone is noticed."""
        parts = urlsplit(self.uri)
        given = {item.partition("=")[0] for item in parts.query.split("&")}
        ours = {name: value for name, value in LIBPQ.items() if name not in given}
        query = "&".join(filter(None, (parts.query, urlencode(ours))))
        return f"postgresql://{parts.netloc}{parts.path or '/'}?{query}"

    def engine(self, *, writes: bool = False) -> Engine:
        """Return an engine without a pool; its sessions are read only, unless they are for what is delivered.

        Raises:
            GranaryError: no such kind of database is known, or its driver is not installed.
        """
        from sqlalchemy import create_engine, event, exc, make_url, pool, types  # noqa: PLC0415 - half a second

        try:
            url = make_url(self.uri)
        except (exc.ArgumentError, ValueError):
            raise GranaryError(
                "the database's URI cannot be read", todo="write kind://user:password@host/name"
            ) from None
        kind = self.dialect
        if kind not in DRIVERS:
            raise GranaryError(
                f"no reader for databases of kind {kind!r}", self.name, f"known are postgresql, {', '.join(DRIVERS)}"
            )
        if url.get_driver_name() not in (DRIVERS[kind], "pysqlite") and "+" not in url.drivername:
            url = url.set(drivername=f"{kind}+{DRIVERS[kind]}")
        driver = url.get_driver_name()
        if find_spec("sqlite3" if driver == "pysqlite" else driver) is None:
            raise GranaryError(
                f"the driver {driver} is not installed",
                self.name,
                "install the extra: pip install 'granary-elt[databases]'",
            )
        if kind == "sqlite":
            engine = create_engine("sqlite://", poolclass=pool.NullPool, creator=lambda: _sqlite(url))
        else:
            arguments = _arguments(driver, self.timeout)
            engine = create_engine(url, poolclass=pool.NullPool, connect_args=arguments)
        if kind in MYSQL:
            known: Any = engine.dialect
            known.ischema_names = {
                **dict.fromkeys(GEOMETRIES, types.LargeBinary),
                **dict.fromkeys(("inet4", "inet6"), types.String),
                **known.ischema_names,
            }  # what SQLAlchemy does not know it would call text
        if driver == "oracledb":
            event.listen(engine, "do_connect", _connect_in_time)
        # Transactions are begun by our own statements (see snapshot.py), so the driver must not begin any.
        event.listen(engine, "connect", lambda session, _: _prepare(session, kind, self.timeout, writes=writes))
        return engine

    @contextmanager
    def errors(self, where: str) -> Iterator[None]:
        """Turn what a driver raises into an error that a person can act on."""
        from sqlalchemy import exc  # noqa: PLC0415

        try:
            yield
        except exc.DBAPIError as error:
            if error.connection_invalidated:
                raise TransientError(f"the source database stopped answering: {words(error)}", where, ADVICE) from None
            raise GranaryError(f"the source database refuses: {words(error)}", where, ADVICE) from None
        except exc.NoSuchTableError as error:
            raise GranaryError(
                f"the source database has no table {error}", where, "check the table's location"
            ) from None
        except (exc.SQLAlchemyError, OSError) as error:
            raise GranaryError(f"the source database cannot be read: {words(error)}", where, ADVICE) from None

    @contextmanager
    def session(self, engine: Engine, where: str) -> Iterator[Connection]:
        """Open a connection; leaving it early does not read what the server still wants to send."""
        from sqlalchemy import exc  # noqa: PLC0415

        with self.errors(where):
            try:
                connection = engine.connect()
            except exc.DBAPIError as error:
                raise TransientError(f"cannot connect to the source database: {words(error)}", where, ADVICE) from None
            try:
                yield connection
            finally:
                drop(connection)


def drop(connection: Connection) -> None:
    """Close a connection at once. A polite close of an unfinished MySQL result reads it to its end first."""
    connection.invalidate()
    connection.close()


VALUED = ("DataError", "IntegrityError")
"""Errors of drivers whose words quote what is in a row."""


def words(error: Exception) -> str:
    """Return the driver's own words on one line, without SQL, parameters and values of rows."""
    origin = getattr(error, "orig", None) or error
    last = origin.args[-1] if origin.args else origin
    if isinstance(last, tuple) and last:
        last = last[-1]
    text = last.decode("utf-8", "replace") if isinstance(last, bytes) else str(last)
    if type(origin).__name__ in VALUED:
        text = re.sub(r"'.*?'|\".*?\"", "'…'", text, flags=re.DOTALL)
    text = plain(text)
    return (" ".join(text.split()) or type(origin).__name__)[:400]


def _arguments(driver: str, timeout: timedelta) -> dict[str, Any]:
    """Return the driver's own time limits; what the URI says comes on top."""
    if driver == "pymysql":
        return {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": SILENCE_SECONDS,
            "write_timeout": SILENCE_SECONDS,
            "charset": "utf8mb4",
        }
    if driver == "pymssql":  # its FreeTDS sends keepalives by itself, after 40 s and each 2 s
        return {"login_timeout": CONNECT_SECONDS, "timeout": _silence(timeout)}
    if driver == "oracledb":
        return {"tcp_connect_timeout": CONNECT_SECONDS, "expire_time": 1}  # minutes between keepalives
    return {}


def _silence(timeout: timedelta) -> int:
    """Return for how many seconds a server may send nothing."""
    return min(int(timeout.total_seconds()), SILENCE_SECONDS)


def _connect_in_time(dialect: Any, _: object, arguments: list[Any], options: dict[str, Any]) -> Any:
    """Connect as SQLAlchemy does; Oracle's driver waits for ever for a server that takes a connection and is silent.

    Raises:
        TimeoutError: there is no session after `LOGIN_SECONDS`. The thread that waits for it ends with the process.
    """
    done: Future[Any] = Future()

    def connect() -> None:
        try:
            done.set_result(dialect.connect(*arguments, **options))
        except BaseException as error:
            done.set_exception(error)

    Thread(target=connect, name="connect", daemon=True).start()
    try:
        return done.result(LOGIN_SECONDS)
    except NotYet:
        raise TimeoutError(f"the login took longer than {LOGIN_SECONDS} s") from None


def _sqlite(url: URL) -> Any:
    """Open an existing SQLite file for reading only; it is never created by looking for it."""
    import sqlite3  # noqa: PLC0415

    path = Path(url.database or "").expanduser().absolute()
    # Closed by another thread than the one that opened it when a load is broken off.
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro", uri=True, timeout=CONNECT_SECONDS, check_same_thread=False
    )


def _text(found: bytes) -> str | bytes:
    """Return text, or the bytes themselves where they are no UTF-8, so that their row is refused alone."""
    try:
        return found.decode()
    except UnicodeDecodeError:
        return found


def _prepare(session: Any, kind: str, timeout: timedelta, *, writes: bool) -> None:
    """Make a new session read only, unless it writes, and give it its time limits."""
    seconds = int(timeout.total_seconds())
    if kind == "sqlite":
        session.isolation_level = None
        session.text_factory = _text
        return
    if kind == "oracle":
        session.call_timeout = _silence(timeout) * 1000
    with session.cursor() as cursor:
        for statement in PREPARE.get(kind, ()):
            if not (writes and statement == _READ_ONLY):
                cursor.execute(statement)
        if kind in ("mysql", "mariadb"):
            # MariaDB counts seconds, MySQL milliseconds; each knows only its own.
            maria = "MariaDB" in session.get_server_info()
            cursor.execute(
                f"set session max_statement_time = {seconds}"
                if maria
                else f"set session max_execution_time = {seconds * 1000}"
            )


_READ_ONLY = "set session transaction read only"
_MYSQL = (
    "set session transaction isolation level repeatable read",
    _READ_ONLY,
    "set session time_zone = '+00:00'",
    # The server cuts a client off that takes nothing for 60 s, as a loader may whose warehouse is busy.
    "set session net_write_timeout = 3600",
)
PREPARE = {"mysql": _MYSQL, "mariadb": _MYSQL, "oracle": ("alter session set time_zone = 'UTC'",)}


def quoted(dialect: Dialect, schema: str | None, name: str) -> str:
    """Return a table's name as the dialect writes it."""
    preparer = dialect.identifier_preparer
    return f"{preparer.quote_schema(schema)}.{preparer.quote(name)}" if schema else preparer.quote(name)
