"""What is served, as the supervisor writes it down and others read it."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

import psutil

from granary.supervisor.services import SUPERVISOR, WAREHOUSE, folder
from granary.warehouse.filelock import FileLockedError, locked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from granary.warehouse.settings import Settings

Status = Literal["waiting", "starting", "up", "ended"]
"""waiting: for those before it, or until it is tried again. ended: with the supervisor."""
PURPOSE = "serving this warehouse"
ENDING_SECONDS = 150
"""How long all services together may take to end."""


@dataclass(frozen=True)
class ServiceState:
    """A service: its status and since when, how often it was started again, its process and that one's memory (bytes).

    The memory is that of the process and all that it has started, memory that several share divided among them where
    the system tells (Linux).
    """

    name: str
    status: Status
    since: datetime
    restarts: int = 0
    pid: int | None = None
    memory: int | None = None


def lock_file(settings: Settings) -> Path:
    """Return the file that the supervisor of a warehouse holds the lock of."""
    return folder(settings) / "lock"


def write(settings: Settings, states: Sequence[ServiceState]) -> None:
    """Write the states down, that of the supervisor first: all of them or nothing."""
    path = folder(settings) / "state.json"
    new = path.with_suffix(".new")
    new.write_text(json.dumps([asdict(one) | {"since": one.since.isoformat()} for one in states]))
    new.replace(path)


def is_served(settings: Settings) -> bool:
    """Return whether a supervisor is at work."""
    try:
        refuse_second(settings)
    except FileLockedError:
        return True
    return False


def keeps_warehouse(settings: Settings) -> bool:
    """Return whether a supervisor keeps the embedded server up."""
    return any(one.name == WAREHOUSE for one in read(settings))


def refuse_second(settings: Settings) -> None:
    """Refuse to serve what is served.

    Raises:
        FileLockedError: a supervisor is at work; the error says which.
    """
    if lock_file(settings).exists():
        with locked(lock_file(settings), PURPOSE, seconds=0):
            pass


def read(settings: Settings) -> tuple[ServiceState, ...]:
    """Return the services that a supervisor keeps, itself first; nothing if none is at work."""
    path = folder(settings) / "state.json"
    if not is_served(settings) or not path.exists():
        return ()
    states = [
        ServiceState(**one | {"since": datetime.fromisoformat(one["since"])}) for one in json.loads(path.read_text())
    ]
    return tuple(replace(one, memory=memory(*_processes(settings, one))) for one in states)


def _processes(settings: Settings, one: ServiceState) -> Iterator[psutil.Process]:
    """Yield the processes of a service: all that it has started, of the supervisor only itself."""
    pids = [one.pid]
    if one.name == WAREHOUSE:  # the server is nobody's child
        with suppress(OSError, ValueError, IndexError):
            pids.append(int((settings.home / "data" / "postmaster.pid").read_text().split()[0]))
    for pid in filter(None, pids):
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            yield process
            if one.name != SUPERVISOR:
                yield from process.children(recursive=True)


def stop(settings: Settings) -> bool:
    """End the supervisor of a warehouse, and all that it keeps; return whether there was one.

    Raises:
        FileLockedError: it has not ended in time.
    """
    if not is_served(settings):
        return False
    with suppress(ProcessLookupError):
        supervisor = json.loads((folder(settings) / "state.json").read_text())[0]
        os.kill(int(supervisor["pid"]), signal.SIGTERM)
    with locked(lock_file(settings), PURPOSE, seconds=ENDING_SECONDS, notify=lambda _: None):
        return True


def memory(*processes: psutil.Process) -> int | None:
    """Return the bytes that processes hold; None if they are gone."""
    total = 0
    for one in processes:
        with suppress(psutil.Error):
            full = one.memory_full_info()
            total += getattr(full, "pss", 0) or full.rss
    return total or None
