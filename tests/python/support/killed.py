"""Work in a process of its own that is killed at a named point."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from granary.warehouse import faults

if TYPE_CHECKING:
    from collections.abc import Callable


def killed_at(point: str, work: Callable[[], object]) -> bool:
    """Do something in a fork of this process that is killed at a named point; return whether it came there."""
    pid = os.fork()
    if not pid:
        try:
            faults.arm(point)
            work()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
