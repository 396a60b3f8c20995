"""A lock on a file is waited for so long only, with a word about who has it, and Ctrl-C ends the wait."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from granary.dbt import manifest
from granary.privacy import suppression_list
from granary.warehouse import filelock, server
from granary.warehouse.filelock import FileLockedError, locked
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from granary.warehouse.settings import Settings

HOLDER = """
import sys
from pathlib import Path
from granary.warehouse.filelock import locked

sys.argv = ["/somewhere/bin/granary", "forget", "7123"]
with locked(Path(PATH), "testing"):
    print(flush=True)
    sys.stdin.read()
"""
WAITER = """
from pathlib import Path
from granary.warehouse.filelock import locked

with locked(Path(PATH), "testing"):
    raise SystemExit("it has got the lock")
"""


@contextmanager
def process(script: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", script.replace("PATH", repr(str(path)))]
    with subprocess.Popen(command, cwd=PROJECT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


@contextmanager
def held(path: Path) -> Iterator[int]:
    """Have another process hold the lock; it forgets a household, whose number nobody may see."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with process(HOLDER, path) as child:
        assert child.stdout
        assert child.stdout.readline() == "\n", child.communicate()[1]
        yield child.pid


def test_who_waits_is_told_for_whom_and_gives_up(tmp_path: Path) -> None:
    said: list[str] = []
    path = tmp_path / "a.lock"
    with held(path) as pid:
        holder = rf"pid {pid} \(granary forget\), since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
        message = (
            rf"^another process is testing, and has been for 1\.2 s: {holder} \(.*a\.lock\); wait until it has ended"
        )
        with pytest.raises(FileLockedError, match=message), locked(path, "testing", 1.2, said.append):
            pass
        with pytest.raises(FileLockedError, match=f"^another process is testing: {holder}"), locked(path, "testing", 0):
            pass
    assert len(said) == 1
    assert said[0].startswith(f"waiting: another process is testing: pid {pid} (granary forget), since ")
    with locked(path, "testing", 0):  # the system frees the lock of one that was killed
        assert "7123" not in filelock.holder(path)


def test_ctrl_c_ends_the_wait(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with held(path) as pid, process(WAITER, path) as waiter:
        assert waiter.stderr
        assert waiter.stderr.readline().startswith(f"granary: waiting: another process is testing: pid {pid} ")
        waiter.send_signal(signal.SIGINT)
        _, errors = waiter.communicate(timeout=10)
        assert "KeyboardInterrupt" in errors


def test_a_lock_whose_file_was_removed_is_taken_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with locked(path, "testing"):
        path.unlink()
        with locked(path, "testing", 0):  # another file: the first holder has nobody's lock any more
            assert path.exists()


@pytest.mark.parametrize(
    ("limit", "name", "work"),
    [
        ("LOCKED_SECONDS", "server.lock", lambda s: server.up(replace(s, external=False))),
        ("LOCKED_SECONDS", "server.lock", lambda s: server.down(replace(s, external=False))),
        ("PARSE_SECONDS", "dagster/dbt/manifest.lock", manifest.prepare),
        ("SECONDS", "erasures/lock", lambda s: suppression_list.add(s, [])),
    ],
)
def test_each_file_lock_of_a_home_has_a_limit(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, limit: str, name: str, work: Callable[[Settings], object]
) -> None:
    for module in (server, manifest):
        monkeypatch.setattr(module, limit, 0, raising=False)
    monkeypatch.setattr(locked.__wrapped__, "__defaults__", (0, filelock.notify))  # type: ignore[attr-defined]
    with held(settings.home / name) as pid, pytest.raises(FileLockedError, match=rf"pid {pid} \(granary forget\)"):
        work(settings)
