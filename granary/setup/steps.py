"""How the set-up runs its steps: one line each with its seconds, everything else in a log."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from granary.warehouse.filelock import FileLockedError, locked

WIDTH = 80  # columns before the seconds
WAIT_SECONDS = 1800  # for another set-up of the same folder

# Settings of the person's shell that would send packages elsewhere than into the environment.
MISLEADING = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PIP_CONSTRAINT",
    "PIP_DRY_RUN",
    "PIP_NO_BINARY",
    "PIP_PREFIX",
    "PIP_REQUIREMENT",
    "PIP_REQUIRE_HASHES",
    "PIP_ROOT",
    "PIP_TARGET",
)


class SetupError(Exception):
    """One sentence for a person: what, where, what to do."""


@dataclass
class Step:
    """A running step; `note` becomes part of its line when it ends."""

    title: str
    note: str = ""

    def line(self, seconds: float) -> str:
        """The line that people see; `seconds` is the time since the step began."""
        text = self.title + (f": {self.note}" if self.note else "")
        return f"  {text:<{WIDTH}} {seconds:6.1f} s"


@dataclass(frozen=True)
class Steps:
    """Runs commands in `root`, keeps what they say in `log`, and shows each step on stdout."""

    root: Path
    log: Path
    lock: int
    began: float = field(default_factory=time.monotonic)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show a step while it runs (a ticking line on a terminal) and its seconds when it has ended."""
        step, began, ended = Step(title), time.monotonic(), threading.Event()
        terminal = sys.stdout.isatty()

        def tick() -> None:
            while not ended.wait(0.5):
                print(f"\r{step.line(time.monotonic() - began)}", end="", flush=True)

        ticker = threading.Thread(target=tick, daemon=True)
        if terminal:
            ticker.start()
        try:
            yield step
        except BaseException:
            ended.set()
            if terminal:
                ticker.join()
                print()
            raise
        ended.set()
        if terminal:
            ticker.join()
        print(f"{chr(13) if terminal else ''}{step.line(time.monotonic() - began)}", flush=True)

    def run(
        self,
        command: Sequence[str | Path],
        *,
        seconds: float | None = None,
        folder: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> bool:
        """Run a command to its end, at most `seconds` long; its output goes to the log.

        The command inherits the lock, so a set-up that was killed keeps the folder locked until its last
        command has ended too.

        Returns:
            Whether it succeeded.
        """
        environment = {key: value for key, value in os.environ.items() if key not in MISLEADING}
        environment |= {
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "0",
            "DO_NOT_TRACK": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "PIP_USER": "0",
            "PYTHONNOUSERSITE": "1",
            **(settings or {}),
        }
        with self.log.open("ab") as log:
            log.write(f"$ {' '.join(str(part) for part in command)}\n".encode())
            log.flush()
            child = subprocess.Popen(
                command,
                cwd=folder or self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(self.lock,),
            )
            try:
                return child.wait(seconds) == 0
            except subprocess.TimeoutExpired:
                log.write(f"stopped after {seconds} s\n".encode())
                return False
            finally:
                if child.poll() is None:
                    child.terminate()
                    try:
                        child.wait(10)
                    except subprocess.TimeoutExpired:
                        child.kill()
                        child.wait()

    def last_error(self) -> str:
        """What the last command in the log said was wrong, in one line, or an empty string."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").rpartition("\n$ ")[2].splitlines()]
        errors = [line for line in lines if line.lower().startswith("error:")]
        # pip's own summaries, such as "error: metadata-generation-failed", follow the reason.
        reasons = [line for line in errors if not re.fullmatch(r"error: [a-z-]+", line)]
        return reasons[-1][:300] if reasons else ""


def home_folder(root: Path) -> Path:
    """Return the warehouse's home: GRANARY_HOME, or .granary in the project's folder."""
    return Path(os.environ.get("GRANARY_HOME") or root / ".granary").expanduser().absolute()


def empty_log(home: Path) -> Path:
    """Make an empty log in the home and return its place.

    Both are the owner's alone from the beginning; for root `granary up` lets the server's user through (layout.py).
    """
    log = home / "logs" / "setup.log"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log.touch(mode=0o600)
    log.chmod(0o600)
    log.write_text("")
    return log


@contextmanager
def exclusive(root: Path) -> Iterator[int]:
    """Hold the lock of the project's folder, so that one set-up runs at a time; yields its descriptor.

    Raises:
        SetupError: another one has been at work for `WAIT_SECONDS`.
    """

    def notify(text: str) -> None:
        print(f"{text[0].upper()}{text[1:]}.", flush=True)

    try:
        with locked(root / ".setup.lock", "setting up this folder", WAIT_SECONDS, notify) as file:
            yield file.fileno()
    except FileLockedError as error:
        raise SetupError(str(error)) from None


def remove(path: Path) -> None:
    """Remove a folder, a file or a link (never what a link points to), if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
