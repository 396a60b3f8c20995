"""Locks on files: one process at a time, for as long as it lives; the system frees the lock of one that was killed.

Whoever waits is told who holds it, waits only so long, and can be interrupted: it asks again and again and does not
sleep in the kernel. Standard library only: the set-up uses this before anything is installed.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys
import time
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECONDS = 60
"""How long a lock is waited for, unless its caller knows better."""
WORD_SECONDS = 1
"""How long without a word: a short wait is not worth one."""
PAUSE_SECONDS = 0.05


class FileLockedError(GranaryError):
    """Another process has held the lock for longer than it may be waited for."""


def notify(text: str) -> None:
    """Say what is waited for."""
    print(f"granary: {text}", file=sys.stderr, flush=True)


@contextmanager
def locked(
    path: Path, purpose: str, seconds: float = SECONDS, notify: Callable[[str], None] = notify
) -> Iterator[TextIO]:
    """Hold the lock of a file inside; see `take`."""
    with take(path, purpose, seconds, notify) as file:
        yield file


def take(path: Path, purpose: str, seconds: float = SECONDS, notify: Callable[[str], None] = notify) -> TextIO:
    """Take the lock of a file, which is made if it is missing, until the returned file is closed.

    Args:
        path: of the file; it says who holds the lock.
        purpose: what one process does at a time, such as "building the marts".
        seconds: how long to wait for it; 0 to ask once.
        notify: called once with whom it waits for, if that takes longer than a moment.

    Raises:
        FileLockedError: somebody else has held it for so long.
    """
    began, said = time.monotonic(), False
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+", encoding="utf-8")
        try:
            while not _lock(file):
                waited = time.monotonic() - began
                if waited >= seconds:
                    long = f", and has been for {seconds:.3g} s" if seconds else ""
                    raise FileLockedError(
                        f"another process is {purpose}{long}: {holder(path)}",
                        str(path),
                        "wait until it has ended, or end it, and run this again",
                    )
                if waited >= WORD_SECONDS and not said:
                    said = True
                    notify(f"waiting: another process is {purpose}: {holder(path)}")
                time.sleep(PAUSE_SECONDS)
            if _is_at(path, file):
                file.truncate(0)
                now = datetime.now(timezone.utc)
                file.write(f"pid {os.getpid()} ({_command()}), since {now:%Y-%m-%d %H:%M:%S} UTC")
                file.flush()
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # it was removed before we had its lock


def holder(path: Path) -> str:
    """Return who holds the lock of a file, as they wrote into it."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()[:200] or "it has only just begun"
    except OSError:
        return "it has just ended"


def _lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _command() -> str:
    """Return what this process is, without its arguments: they may name a person, or hold a secret."""
    program, *rest = sys.argv or [""]
    path = Path(program)
    name = path.parent.name if path.name == "__main__.py" else path.name
    word = rest[0] if rest and re.fullmatch(r"[a-z]+(-[a-z]+)*", rest[0]) else ""
    return f"{name or 'python'} {word}".strip()
