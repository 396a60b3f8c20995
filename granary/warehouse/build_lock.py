"""One build of a schema's marts at a time: whoever asks for it, on whichever machine.

An advisory lock of the warehouse, which its session holds for as long as it lives; a transaction that is open for an
hour would keep the server from tidying up. Its session is named after the process and its machine.
"""

from __future__ import annotations

import os
import platform
from contextlib import contextmanager
from select import select
from threading import Event, Thread
from typing import TYPE_CHECKING

from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError, TransientError
from granary.warehouse.waits import LockHeldError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

HELD = "GRANARY_BUILDING"
"""The variable of a process whose parent has the lock."""
SECONDS = 3600
"""How long another process may build before those that wait for it give up."""
LOOK_SECONDS = 1
TAKE = "select key, pg_try_advisory_lock(key) from ops.build_lock($1) as key"
LONGEST_NAME = 63


@contextmanager
def building(
    settings: Settings, schema: str, say: Callable[[str], None], stop: Callable[[], None], seconds: float = SECONDS
) -> Iterator[None]:
    """Wait until nobody else builds what is published to this schema: two at once would overwrite each other's tables.

    Args:
        settings: the warehouse; it has been prepared.
        schema: that the marts are published to.
        say: told once who has it, if somebody has.
        stop: called from another thread when the lock's session was ended: somebody else may build then.
        seconds: how long to wait; 0 to ask once.

    Raises:
        GranaryError: somebody else has built for so long; or see `connect`.
        TransientError: the lock's session was ended while what is inside worked.
    """
    with connect(settings, role="transformer", autocommit=True, application=session_name()) as connection:
        ((key, is_ours),) = query(connection, TAKE, schema)
        if not is_ours:
            holder = query(connection, "select ops.lock_holder($1)", key)[0][0] or "a session that has just ended"
            say(f"waiting: another process is building {schema}: {holder}")
            execute(connection, f"set lock_timeout = {max(1, int(seconds * 1000))}")
            try:
                execute(connection, "select pg_advisory_lock($1)", key)
            except LockHeldError:
                raise GranaryError(
                    f"another process is building {schema}, and has been for {seconds:.3g} s: {holder}",
                    f"{settings.host}, database {settings.database}",
                    "wait until it has ended, or end it (`select pg_terminate_backend(pid)`), and run this again",
                ) from None
        with _watched(connection, stop) as lost:
            yield
        if lost.is_set():
            raise TransientError(
                "the build was stopped: the session that held its lock was ended",
                f"{settings.host}, database {settings.database}",
                "readers keep what they had; run this again",
            )


@contextmanager
def _watched(connection: Connection, stop: Callable[[], None]) -> Iterator[Event]:
    """Look every second whether the session is still there: the server says nothing to it before it ends."""
    ended, lost = Event(), Event()

    def watch() -> None:
        while not ended.wait(LOOK_SECONDS):
            if select([connection.fileno()], [], [], 0)[0]:
                lost.set()
                stop()
                return

    thread = Thread(target=watch, name="build lock", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        ended.set()
        thread.join()


def session_name() -> str:
    """Return what the session with the lock is called in the server."""
    name = f"granary build by process {os.getpid()} on {platform.node()}"
    return name.encode()[:LONGEST_NAME].decode(errors="ignore")
