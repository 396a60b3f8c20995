"""The source database: a session for questions, and what its answers and its refusals say."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from granary.cdc.mysql.gtid import GtidSet
from granary.warehouse.database_errors import plain
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.sources.spec import BinlogCapture

CONNECT_SECONDS, SILENCE_SECONDS = 10, 300
SESSION = (
    "set session time_zone = '+00:00'",
    "set session sql_mode = ''",  # so that a quote is what we take it for
    "set session transaction isolation level repeatable read",
    "set session net_write_timeout = 3600",  # a warehouse that is busy takes nothing for a while
)
DENIED = (1044, 1045, 1142, 1227)
"""Errors of a login that may not do what it asks for."""


@dataclass(frozen=True)
class Now:
    """The source at this moment: which server it is, where its log ends, and what time it is (ISO 8601)."""

    server: int
    file: str
    position: int
    gtid: str
    clock: str


class Server:
    """A connection to the source database, outside transactions."""

    def __init__(self, uri: str, capture: BinlogCapture, source: str) -> None:
        """Connect; the URI may hold a password and is never shown.

        Raises:
            GranaryError: the driver is not installed, the URI cannot be read, or the database does not answer.
        """
        self.capture, self.source, self.where = capture, source, f"source {source}"
        if find_spec("pymysql") is None:
            raise GranaryError(
                "the driver pymysql is not installed", self.where, "run pip install 'granary-elt[databases]'"
            )
        self.todo = f"check {capture.setting} and that the source database is up"
        self.arguments = self._arguments(uri)
        self.database = str(self.arguments.get("database") or "")
        self.session = self.connect()
        self.is_mariadb = "MariaDB" in self.session.get_server_info()

    def _arguments(self, uri: str) -> dict[str, Any]:
        """Return what the driver is called with; what follows a ? in the URI, such as ssl_ca, is the driver's own."""
        from sqlalchemy import exc, make_url  # noqa: PLC0415 - half a second

        todo = f"write {self.capture.setting} as mysql://user:password@host/name"
        if urlsplit(uri).scheme.partition("+")[0].lower() not in ("mysql", "mariadb"):
            raise GranaryError("the source's URI is not one of MySQL or MariaDB", self.where, todo)
        try:
            url = make_url(uri).set(drivername="mysql+pymysql")
            _, arguments = url.get_dialect()().create_connect_args(url)
        except (exc.ArgumentError, ValueError, TypeError):
            raise GranaryError("the source's URI cannot be read", self.where, todo) from None
        limits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": SILENCE_SECONDS, "write_timeout": SILENCE_SECONDS}
        return {**limits, **arguments, "charset": "utf8mb4", "autocommit": True}

    def connect(self, **more: Any) -> Any:
        """Open a connection whose values are in UTC.

        Raises:
            GranaryError: the database does not answer, or refuses the login.
        """
        import pymysql  # noqa: PLC0415 - an extra

        try:
            session = pymysql.connect(**{**self.arguments, **more})
            with session.cursor() as cursor:
                for statement in SESSION:
                    cursor.execute(statement)
        except (pymysql.MySQLError, OSError) as error:
            raise GranaryError(
                f"cannot connect to the source database: {words(error)}", self.where, self.todo
            ) from None
        return session

    def close(self) -> None:
        """Close the connection."""
        with suppress(Exception):
            self.session.close()

    def cancel(self) -> None:
        """End the connection at once; from another thread."""
        abort(self.session)

    def query(self, sql: str, *parameters: object, session: Any = None) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows; a connection that has been idle for too long is opened anew.

        Raises:
            GranaryError: the source refuses it or is gone, in its own words.
        """
        if session is None:
            session = self.session = self._alive()
        try:
            with session.cursor() as cursor:
                cursor.execute(sql, parameters or None)
                return list(cursor.fetchall())
        except Exception as error:
            raise self.failure(error) from None

    def _alive(self) -> Any:
        if self.session.open:
            with suppress(Exception):
                self.session.ping(reconnect=False)
                return self.session
        self.close()
        return self.connect()

    def failure(self, error: Exception) -> Exception:
        """Return a driver's error as one that a person can act on; of others the error itself."""
        import pymysql  # noqa: PLC0415 - an extra

        if not isinstance(error, (pymysql.MySQLError, OSError)):
            return error
        code = error.args[0] if error.args else 0
        if code in DENIED:
            return GranaryError(
                f"the source database refuses: {words(error)}",
                self.where,
                "grant our login there: select on the tables, and on *.* replication slave and replication client",
            )
        gone = isinstance(error, (OSError, pymysql.InterfaceError)) or code in (2006, 2013)
        did = "stopped answering" if gone else "refuses"
        return GranaryError(f"the source database {did}: {words(error)}", self.where, self.todo)

    def variables(self, *names: str) -> dict[str, str]:
        """Return global settings by name; those that the server does not know are left out."""
        listed = ", ".join(["%s"] * len(names))
        rows = self.query(f"show global variables where variable_name in ({listed})", *names)
        return {str(name).lower(): str(value) for name, value in rows}

    def now(self) -> Now:
        """Return where the source's log ends, and its clock.

        Raises:
            GranaryError: it keeps no log, or our login may not ask.
        """
        server, clock = self.query("select @@server_id, date_format(utc_timestamp(6), '%Y-%m-%dT%H:%i:%s.%f+00:00')")[0]
        file, position, _, _, *rest = self.status()
        gtid = self.query("select @@gtid_binlog_pos")[0][0] if self.is_mariadb else rest[0]
        return Now(int(server), str(file), int(position), str(GtidSet.parse(_line(gtid))), str(clock))

    def status(self, session: Any = None) -> tuple[Any, ...]:
        """Return where the log ends: file, position, databases that it has, and that it leaves out; in MySQL GTIDs.

        Raises:
            GranaryError: it keeps no log, or our login may not ask.
        """
        named = "binary log" if not self.is_mariadb and self.version >= (8, 2) else "master"
        rows = self.query(f"show {named} status", session=session)
        if not rows:
            raise GranaryError("the source keeps no binary log", self.where, "set log_bin there and restart it")
        return rows[0]

    @property
    def version(self) -> tuple[int, ...]:
        """The server's version, such as 10, 11."""
        found = re.match(r"(?:5\.5\.5-)?(\d+)\.(\d+)", self.session.get_server_info())
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def logs(self) -> list[tuple[str, int]]:
        """Return the log's files, in order, and the bytes of each."""
        return [(str(row[0]), int(row[1])) for row in self.query("show binary logs")]

    def purged(self) -> GtidSet:
        """Return the transactions that the log has no more."""
        if not self.is_mariadb:
            return GtidSet.parse(_line(self.query("select @@global.gtid_purged")[0][0]))
        first = self.logs()[0][0]
        return GtidSet.parse(_line(self.query("select binlog_gtid_pos(%s, 4)", first)[0][0]))


def _line(gtid: object) -> str:
    return "".join(str(gtid or "").split())


def words(error: Exception) -> str:
    """Return the driver's own words on one line."""
    last: Sequence[object] = error.args or (error,)
    return (" ".join(plain(str(last[-1])).split()) or type(error).__name__)[:400]


def abort(session: Any) -> None:
    """Shut a session's socket: a thread that reads from it wakes up, and the server gives the session up."""
    import socket  # noqa: PLC0415

    with suppress(Exception):
        session._sock.shutdown(socket.SHUT_RDWR)


def quoted(name: str) -> str:
    """Return an identifier as MySQL quotes it."""
    return "`" + name.replace("`", "``") + "`"
