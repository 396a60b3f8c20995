"""Loader processes that can be killed: each is forked from a clean server that has the imports done.

A Python process that imports everything takes a second; a fork of one that has takes some milliseconds. The server is
multiprocessing's: it runs nothing but imports, so it has no threads, no connections and no locks to inherit.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import psutil

from granary.warehouse import faults

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.context import ForkServerProcess

    from granary.warehouse.settings import Settings

PATIENCE_SECONDS = 120
"""How long a loader may say nothing while it does no work either: on a slow machine it works for longer."""
PATIENCES = 10
"""How often this is granted to one that works: it may be going round in circles."""
IDLE = 0.1
"""Processor seconds of a patience that are no work."""
COUNTLESS = 1 << 60

_counting = threading.Lock()
"""Starting a process asks after all that have ended: it can take an exit code from the thread that waits for it."""
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.python.engine.chaos.preload"])


class Loader(Protocol):
    """What a loader process does. It is sent to the child: it holds names and addresses, and nothing that is open."""

    def load(self, settings: Settings) -> None:
        """Load once everything that the source has."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a loader process ended: killed, failed with an error, or done.

    `passes` says how often each named point was passed; it is known of those that were done only.
    """

    killed: bool
    error: str | None
    seconds: float
    passes: dict[str, int]

    @property
    def done(self) -> bool:
        """Whether it came to its end without an error."""
        return not self.killed and self.error is None


class Child:
    """One loader process: born, it waits for `go`."""

    def __init__(
        self,
        loader: Loader,
        settings: Settings,
        arm: str = "",
        sabotage: Callable[[], None] | None = None,
    ) -> None:
        """Start the process and wait until it is ready to load."""
        self.line, theirs = _context.Pipe()
        self.process: ForkServerProcess = _context.Process(
            target=_live, args=(theirs, loader, settings, arm, sabotage), daemon=True
        )
        with _counting:
            self.process.start()
        theirs.close()
        self.pid = self.process.pid or 0
        self._wait()
        self.line.recv()

    def go(self) -> Child:
        """Let it load."""
        self.began = time.perf_counter()
        self.line.send("go")
        return self

    def over(self, seconds: float) -> bool:
        """Wait so long, and return whether it ended meanwhile."""
        return self.line.poll(seconds)

    def kill(self) -> None:
        """Kill it as nothing can be caught."""
        self.process.kill()

    def end(self, beside: Child | None = None) -> Outcome:
        """Wait for its end; it may be waiting for another one that works."""
        self._wait(beside)
        try:
            error, seconds, passes = self.line.recv()
        except (EOFError, ConnectionResetError):
            error, seconds, passes = "it ended without a word", time.perf_counter() - self.began, {}
        with _counting:
            self.process.join(PATIENCE_SECONDS)
            code = self.process.exitcode
        if error and not passes and code != -signal.SIGKILL:
            error = f"{error} (exit code {code})"
        self.line.close()
        self.process.close()
        return Outcome(code == -signal.SIGKILL, error, seconds, passes)

    def _wait(self, beside: Child | None = None) -> None:
        """Wait until it says something, or its process is gone.

        Raises:
            TimeoutError: it does not work either. It is killed then.
        """
        for _ in range(PATIENCES):
            before = _worked(self, beside)
            if self.line.poll(PATIENCE_SECONDS):
                return
            used = _worked(self, beside) - before
            if used < IDLE:
                break
        self.process.kill()
        raise TimeoutError(
            f"a loader process said nothing, and used {used:.2f} s of a processor in {PATIENCE_SECONDS} s"
        )


def _worked(*children: Child | None) -> float:
    """Return the processor seconds of some loaders and of the processes that they have started."""
    seconds = 0.0
    for child in children:
        with suppress(psutil.NoSuchProcess):
            if child:
                process = psutil.Process(child.pid)
                for one in (process, *process.children(recursive=True)):
                    with suppress(psutil.NoSuchProcess):
                        seconds += sum(one.cpu_times()[:2])
    return seconds


def run(loader: Loader, settings: Settings, arm: str = "", sabotage: Callable[[], None] | None = None) -> Outcome:
    """Let one loader process live to its end."""
    return Child(loader, settings, arm, sabotage).go().end()


def kill_after(
    loader: Loader, settings: Settings, seconds: float, sabotage: Callable[[], None] | None = None
) -> Outcome:
    """Kill a loader process so long after its start."""
    child = Child(loader, settings, "", sabotage).go()
    if not child.over(seconds):
        child.kill()
    return child.end()


def aside(task: Callable[..., None], *arguments: object) -> None:
    """Do something in a process of its own, which may give up its rights."""
    process = _context.Process(target=task, args=arguments)
    with _counting:
        process.start()
        process.join(PATIENCE_SECONDS)
    if process.exitcode:
        raise RuntimeError(f"{task.__name__} ended with {process.exitcode}")


class CountedPoints(dict[str, int]):
    """Points that count how often they are passed, and let pass."""

    def __contains__(self, point: object) -> bool:
        """Every point is armed, too far away to be reached."""
        self.setdefault(str(point), COUNTLESS)
        return True


def _live(line: Connection, loader: Loader, settings: Settings, arm: str, sabotage: Callable[[], None] | None) -> None:
    """Be a loader process. Ctrl-C is for the harness, which lets its last round end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in [name for name in os.environ if name.startswith(("PG", "GRANARY_"))]:
        del os.environ[name]
    os.environ.update({k: v for k, v in settings.environment().items() if k.startswith(("PG", "GRANARY_"))})
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    points = faults.ARMED = CountedPoints()
    if sabotage:
        sabotage()
    line.send("ready")
    line.recv()
    faults.arm(arm)
    began = time.perf_counter()
    error = None
    try:
        loader.load(settings)
    except BaseException:  # whatever it was, the harness wants to hear it
        error = traceback.format_exc(limit=-1)
    passes = {point: COUNTLESS - left for point, left in points.items() if left > COUNTLESS >> 1}
    line.send((error, time.perf_counter() - began, passes))
