"""Waits for the warehouse's server that have a limit, say what they wait for, and end.

While a statement runs, another connection now and then asks the server about it. A session that waits for a lock is
told with its holder, and the server itself ends that wait (lock_timeout). A server that waits for us while we wait for
it has lost us somewhere in the network; one that does not answer the question either is gone or frozen.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.errors import LockNotAvailable
from psycopg.errors import _WaitTimeout as StillWaiting

from granary.warehouse.database_errors import clean
from granary.warehouse.errors import GranaryError
from granary.warehouse.filelock import notify as notify  # noqa: PLC0414 - where it is said what is waited for

if TYPE_CHECKING:
    from collections.abc import Generator

    from granary.warehouse.settings import Settings

Result = TypeVar("Result")

LOOKS = (0.5, 5.0)
"""Seconds until the first look at what a statement waits for, and between later ones."""
SILENCE_SECONDS = 30
"""How long a server may not answer, or wait for us who wait for it, before it is given up."""
TCP: dict[str, Any] = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""How libpq notices that the other machine is gone; of no effect on a Unix socket."""

LOOK = """
select activity.wait_event_type, holder.pid, holder.usename::text, holder.application_name, to_char(
    coalesce(holder.xact_start, holder.backend_start) at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'
), (
    select min(coalesce(relation::regclass::text, locktype)) from pg_locks where pid = $1 and not granted
)
from pg_stat_activity as activity
left join pg_stat_activity as holder on holder.pid = any(pg_blocking_pids(activity.pid))
where activity.pid = $1
order by holder.backend_start
limit 1
"""


class LockHeldError(GranaryError, LockNotAvailable):
    """Somebody else has held a lock for longer than a statement may wait for it; `holder` says who, if it is known."""

    def __init__(self, seconds: float, holder: str) -> None:
        """Say how long it was waited for, and who has it."""
        self.holder = holder or "another session has it: see pg_locks and pg_stat_activity"
        super().__init__(
            f"lock timeout after {seconds:.3g} s: {self.holder}",
            "the warehouse",
            "wait for that session, or end it (`select pg_terminate_backend(pid)`), and run this again",
        )


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection to the warehouse; leaving the `with` block closes it, and what is not committed is undone."""

    settings: Settings | None = None
    """Where to ask about a statement that takes long; without it nobody asks."""

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def wait(
        self,
        gen: Generator[Any, Any, Result],
        interval: float = 0.1,
        timeout: float | None = None,
    ) -> Result:
        """Wait for the server, as psycopg does for everything that it asks; errors come without values.

        Raises:
            LockHeldError: the statement waited for a lock until the server's limit.
            OperationalError: the server was silent for `SILENCE_SECONDS`; the connection is closed.
        """
        watch = _Watch(self)
        try:
            if self.settings is None or timeout is not None:
                return super().wait(gen, interval, timeout)
            pause = LOOKS[0]
            while True:
                try:
                    return super().wait(gen, interval, pause)
                except StillWaiting:
                    pause = LOOKS[1]
                    self._look(watch)
        except LockNotAvailable as error:
            if "held by" in str(error):  # ops.take_lock says so itself
                raise
            raise LockHeldError(time.monotonic() - watch.began, watch.holder) from None
        except psycopg.Error as error:
            clean(error)
            raise

    def _look(self, watch: _Watch) -> None:
        """Look what is waited for; whoever is interrupted meanwhile leaves no statement at work."""
        try:
            watch.look()
        except KeyboardInterrupt:
            with suppress(psycopg.Error):
                self.cancel_safe(timeout=5)
            self.pgconn.finish()
            raise

    def give_up(self, why: str) -> psycopg.OperationalError:
        """Close without a word to a server that does not listen, and return the error to raise."""
        self.pgconn.finish()
        return psycopg.OperationalError(why)


class _Watch:
    """What is known of one wait of a connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self.holder, self.looks = connection, "", 0
        self.began = self.well = time.monotonic()

    def look(self) -> None:
        """Ask the server what the connection waits for; tell who holds a lock; give up after long silence."""
        assert self.connection.settings is not None
        pid = self.connection.pgconn.backend_pid
        try:
            event, holder = look(self.connection.settings, self.connection.info.dbname, pid)
        except psycopg.Error:
            event, holder = None, ""
        if event not in (None, "Client"):
            self.well = time.monotonic()
        elif time.monotonic() - self.well > SILENCE_SECONDS:
            raise self.connection.give_up(f"the server has not answered for {SILENCE_SECONDS} s, or answers are lost")
        if not holder:
            return
        self.holder = holder
        self.looks += 1
        if self.looks == 2:  # noqa: PLR2004 - a short wait is not worth a word
            notify(f"waiting for a lock: {self.holder}")


def look(settings: Settings, database: str, pid: int) -> tuple[str | None, str]:
    """Ask the server what a session waits for.

    Returns:
        The type of its wait event, None if there is no such session, "" if it waits for nothing; and who holds the lock
        that it waits for, "" without one.
    """
    with ask(settings, database) as aside:
        found = aside.execute(LOOK.replace("$1", str(int(pid)))).fetchall()
    if not found:
        return None, ""
    event, holder, user, application, since, what = found[0]
    if holder is None:
        return event or "", ""
    begun = f", since {since}" if since else ""
    return event or "", f"{what or 'it'} is held by pid {holder} ({user}, {application or 'no name'}{begun})"


def ask(settings: Settings, database: str) -> psycopg.Connection[Any]:
    """Open a short connection as the owner, who sees all sessions; it reads the system's own views only."""
    more: dict[str, Any] = {**TCP, "connect_timeout": 5}
    options = "-c search_path=pg_catalog -c statement_timeout=5000"
    uri = settings.uri(database, application="granary watch", options=options)
    return psycopg.connect(uri, autocommit=True, prepare_threshold=None, **more)
