"""Groups of processes: each service of `granary serve` leads one, with whatever it starts (runs, for instance).

`python -m granary.supervisor.groups` is the guard: it reads numbers of groups from its standard input, and ends them
when that ends, as it does when the supervisor was killed: nobody can catch a SIGKILL and tell its children.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

PATIENCE_SECONDS = 20
"""How long a group may take to end by itself: transactions roll back, runs are marked as canceled."""
KILLED_SECONDS = 5
PAUSE_SECONDS = 0.1


def members(group: int) -> list[psutil.Process]:
    """Return the living processes of a group."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end(groups: Iterable[int]) -> None:
    """Have the processes of these groups end, the last group first; those that do not when asked are killed."""
    for group in reversed(list(groups)):
        for sign, seconds in ((signal.SIGTERM, PATIENCE_SECONDS), (signal.SIGKILL, KILLED_SECONDS)):
            if not members(group):
                break
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, sign)
            until = time.monotonic() + seconds
            while members(group) and time.monotonic() < until:
                time.sleep(PAUSE_SECONDS)


def guard() -> None:
    """End the groups that standard input names when it ends."""
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.SIG_IGN)
    end(dict.fromkeys(int(line) for line in sys.stdin))


if __name__ == "__main__":
    guard()
