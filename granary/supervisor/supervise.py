"""The supervisor: starts services one after the other, looks after them, starts again what dies, ends all together."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from granary.supervisor import groups
from granary.supervisor.services import GUARD, SUPERVISOR, Service, folder
from granary.supervisor.state import PURPOSE, ServiceState, Status, lock_file, write
from granary.warehouse.filelock import locked
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from granary.warehouse.settings import Settings

PAUSE_SECONDS = 0.5
LOOK_SECONDS, STARTING_LOOK_SECONDS = 30.0, 1.0
"""How often a service is asked whether it is healthy."""
PATIENCE_SECONDS = 120.0
"""How long a service may be unhealthy before it is killed and started again."""
LONGEST_PAUSE_SECONDS = 20
"""Before a service that dies again and again is started again."""
SETTLED_SECONDS = 60
"""A service that was up for so long begins anew with the shortest pause."""
ASKED_SECONDS = 2
"""How long to wait for the lock: whoever asks whether a supervisor is at work holds it for a moment."""
LOG_BYTES = 5_000_000


def now() -> datetime:
    """Return the time."""
    return datetime.now(timezone.utc)


@dataclass
class Kept:
    """A service and its process. Times without a zone are of the monotonic clock."""

    service: Service
    process: subprocess.Popen[bytes] | None = None
    status: Status = "waiting"
    since: datetime = field(default_factory=now)
    restarts: int = 0
    failures: int = 0
    due: float = 0.0
    looked: float = 0.0
    unwell: float = 0.0
    """Seconds for which it has not answered; a machine that was asleep counts for nothing."""

    def become(self, status: Status) -> None:
        """Take a status on."""
        self.status, self.since = status, now()

    @property
    def state(self) -> ServiceState:
        """What others are told."""
        pid = self.process.pid if self.process else None
        return ServiceState(self.service.name, self.status, self.since, self.restarts, pid)


class Supervisor:
    """Keeps services at work until it is interrupted."""

    def __init__(
        self,
        settings: Settings,
        services: Sequence[Service],
        environment: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        """Prepare; nothing is started yet."""
        self._settings, self._environment, self._say = settings, dict(environment), say
        self._kept = [Kept(service) for service in services]
        self._groups: list[int] = []
        self._guard: subprocess.Popen[bytes] | None = None
        self._states = [
            ServiceState(SUPERVISOR, "up", now(), pid=os.getpid()),
            ServiceState(GUARD, "starting", now(), restarts=-1),
        ]
        self._written: list[ServiceState] = []

    def run(self) -> None:
        """Keep the services at work until Ctrl-C or SIGTERM; then end them, the last first.

        Raises:
            FileLockedError: another supervisor serves this warehouse.
        """
        folder(self._settings).mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(lock_file(self._settings), PURPOSE, seconds=ASKED_SECONDS), self._all_ended():
            while True:
                self._look()
                time.sleep(PAUSE_SECONDS)

    @contextmanager
    def _all_ended(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            self._say("Stopping.")
        finally:
            groups.end(self._groups)
            for one in self._kept:
                if one.process:
                    one.process.poll()
                one.become("ended")
            self._write()
            if self._guard and self._guard.stdin:
                self._guard.stdin.close()
                self._guard.wait()

    def _look(self) -> None:
        """Do whatever is due, once."""
        self._keep_guard()
        is_ready = True
        for one in self._kept:
            self._bury(one)
            if one.status == "waiting" and (is_ready or one.restarts) and time.monotonic() >= one.due:
                self._start(one)
            elif one.process:
                self._ask(one)
            is_ready = is_ready and one.status == "up"
        self._write()

    def _start(self, one: Kept) -> None:
        log = self._settings.home / "logs" / f"{one.service.name}.log"
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            log.chmod(0o600)
            one.process = subprocess.Popen(
                one.service.command,
                cwd=str(PROJECT),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._groups.append(one.process.pid)
        self._tell_guard(one.process.pid)
        one.unwell, one.looked = 0.0, time.monotonic()
        one.become("starting")

    def _bury(self, one: Kept) -> None:
        """Notice that a process has ended, and say when it is started again. What it has started may go on: runs do."""
        if one.process is None or (code := one.process.poll()) is None:
            return
        if one.status == "up" and (now() - one.since).total_seconds() > SETTLED_SECONDS:
            one.failures = 0
        pause = min(2**one.failures, LONGEST_PAUSE_SECONDS)
        one.failures, one.restarts = one.failures + 1, one.restarts + 1
        one.due, one.process = time.monotonic() + pause, None
        one.become("waiting")
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        log = self._settings.home / "logs" / f"{one.service.name}.log"
        self._say(f"{one.service.name} {how}; starting it again in {pause} s (its words: {log})")
        self._groups = [group for group in self._groups if groups.members(group)]

    def _ask(self, one: Kept) -> None:
        """Ask a service whether it is healthy, and kill one that has not been for too long."""
        at = time.monotonic()
        if not one.process or at - one.looked < (LOOK_SECONDS if one.status == "up" else STARTING_LOOK_SECONDS):
            return
        before, one.looked, is_healthy = one.looked, at, False
        with suppress(Exception):  # whatever goes wrong is an answer
            is_healthy = one.service.is_healthy(one.since)
        if is_healthy:
            one.unwell = 0.0
            if one.status == "starting":
                one.become("up")
                self._say(f"{one.service.name} is up (pid {one.process.pid})")
            return
        one.unwell += min(at - before, LOOK_SECONDS)
        if one.unwell > PATIENCE_SECONDS:
            self._say(f"{one.service.name} does not answer")
            one.process.kill()

    def _keep_guard(self) -> None:
        if self._guard is None or self._guard.poll() is not None:
            command = [sys.executable, "-m", "granary.supervisor.groups"]
            self._guard = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.PIPE, start_new_session=True, cwd=str(PROJECT)
            )
            restarts = self._states[-1].restarts + 1
            self._states[-1] = ServiceState(GUARD, "up", now(), restarts, self._guard.pid)
            for group in self._groups:
                self._tell_guard(group)

    def _tell_guard(self, group: int) -> None:
        if self._guard and self._guard.stdin:
            with suppress(BrokenPipeError):  # it was killed: the next one is told again
                self._guard.stdin.write(f"{group}\n".encode())
                self._guard.stdin.flush()

    def _write(self) -> None:
        states = [*self._states, *(one.state for one in self._kept)]
        if states != self._written:
            write(self._settings, states)
            self._written = states
