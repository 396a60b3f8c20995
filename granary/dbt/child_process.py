"""Processes that end with who started them, however that one ended: nobody can catch a SIGKILL and tell its children.

`python -m granary.dbt.child_process COMMAND ...` runs a command until its own standard input ends, as it does
when the parent is killed. A process that is started by others watches its parent by `end_with_parent`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE_SECONDS = 20
LOOK_SECONDS = 0.5


def start(command: Sequence[str], *, cwd: object, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a command that ends when this process does, or closes the returned process' standard input."""
    return subprocess.Popen(
        [sys.executable, "-m", "granary.dbt.child_process", *command],
        cwd=str(cwd),
        env=env,
        stdin=subprocess.PIPE,
    )


def supervise(command: Sequence[str]) -> int:
    """Run a command until it ends, or standard input does; return its exit code.

    It is in a group of its own, so that Ctrl-C in a terminal reaches it once and in order, and nothing of it is left.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())

    def let_go() -> None:
        while os.read(0, 64):
            pass
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE_SECONDS)
        _end_group(child)

    threading.Thread(target=let_go, daemon=True).start()
    try:
        return child.wait()
    finally:
        _end_group(child)


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """Leave nothing of what a command has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def end_with_parent() -> None:
    """Have this process end as by Ctrl-C when its parent is gone, and without asking if it does not."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK_SECONDS)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(PATIENCE_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()


if __name__ == "__main__":
    sys.exit(supervise(sys.argv[1:]))
