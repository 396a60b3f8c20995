"""What `granary serve` does for backups: the log every 20 seconds, base backups and drills when they are due.

Those are processes of their own, so that the log goes on meanwhile.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from granary.backup import erasures, records
from granary.backup.config import destination
from granary.backup.log import LogShipper
from granary.warehouse.connection import reason
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.backup.config import Config
    from granary.warehouse.settings import Settings

EVERY_SECONDS = 20.0
"""How often the log is stored: what a lost machine costs at most, with the time that storing takes."""
STATE_SECONDS = 60.0
RETRY = timedelta(minutes=15)
"""How long after a backup or drill that failed it is tried again."""


@dataclass
class Service:
    """Looks after the backups of one warehouse."""

    settings: Settings
    config: Config
    report: Callable[[str], None]
    child: subprocess.Popen[bytes] | None = None
    _shipper: LogShipper | None = None
    _wants_full: bool = False
    _said: str = ""
    _noted: float = 0.0
    _tried: dict[str, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Open the destination; nothing is asked of it yet."""
        self.place = destination(self.settings, self.config)

    def round(self) -> None:
        """Do whatever is due, once. What fails is said once, kept for those who are told, and tried again."""
        problem, at = "", None
        try:
            if not self.settings.external:
                at = self._store_log()
            self._start_due()
        except GranaryError as error:
            problem, self._shipper = str(error), None
        except psycopg.Error as error:
            problem, self._shipper = f"the warehouse broke off: {reason(error)}", None
        if problem and problem != self._said:
            self.report(problem)
        self._said = problem
        self._note(at, problem)

    def end(self) -> None:
        """End what was started."""
        if self.child and self.child.poll() is None:
            self.child.terminate()
            self.child.wait()

    def _store_log(self) -> str:
        if self._shipper is None:
            self._shipper = LogShipper(self.settings, self.place, self.config.encrypt_to)
        done = self._shipper.round()
        erasures.store(self.settings, self.place)
        if done.gap:
            self.report(f"{done.gap}: a full backup is made")
            self._wants_full = True
        return done.position.at

    def _start_due(self) -> None:
        """Start the backup or the drill that is due, one at a time."""
        if self.child and self.child.poll() is None:
            return
        backed_up, drilled = records.last(self.settings, self.place.place)
        if self._wants_full or self._is_due("backup", backed_up, self.config.every):
            self._start("backup", *(["--full"] if self._wants_full else []))
            self._wants_full = False
        elif backed_up and self._is_due("drill", drilled, self.config.drill_every):
            self._start("drill")

    def _is_due(self, what: str, last: datetime | None, every: timedelta) -> bool:
        now = datetime.now(timezone.utc)
        tried = self._tried.get(what)
        return (last is None or now - last >= every) and (tried is None or now - tried >= min(RETRY, every))

    def _start(self, *words: str) -> None:
        self._tried[words[0]] = datetime.now(timezone.utc)
        self.child = spawn(*words)

    def _note(self, at: str | None, problem: str) -> None:
        if problem or time.monotonic() - self._noted < STATE_SECONDS:
            return
        try:
            records.keep_state(self.settings, self.config, self.place.place, at, problem)
        except (GranaryError, psycopg.Error):
            return  # the warehouse is away: whoever looks after it says so
        self._noted = time.monotonic()


def spawn(*words: str) -> subprocess.Popen[bytes]:
    """Start the command with these words."""
    return subprocess.Popen([str(Path(sys.executable).parent / "granary"), *words], stdin=subprocess.DEVNULL)
