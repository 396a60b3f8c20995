"""A process of a project that has the engine imported: functions are called in it, and what runs tell comes back.

A process finds its project when it imports the engine, so the tests' own cannot run another one; and a process for
each run would import Dagster each time, which takes longer than the run of a small project.
"""

from __future__ import annotations

import subprocess
import sys
from multiprocessing.connection import Connection, Pipe
from typing import TYPE_CHECKING, Any

from granary.dbt.run_events import Event
from granary.warehouse.settings import Settings
from tests.python.support.business import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeVar

    Answer = TypeVar("Answer")
    Tell = Callable[[Event], None]

PATIENCE_SECONDS = 600


class ProjectProcess:
    """The process: one call at a time."""

    def __init__(self, environment: dict[str, str], errors: Path) -> None:
        """Start it, in a session of its own; what it prints goes to a file."""
        self.line, theirs = Pipe()
        self.errors = errors
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        with theirs, errors.open("a") as said:
            self.child = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=environment,
                stdout=said,
                stderr=said,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def start(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have it call a function that its modules have, with its settings, a way to tell events, and these."""
        self.line.send((function, arguments))

    def next(self) -> Any:
        """Return the event that it tells next, or the answer, which comes last.

        Raises:
            EOFError: it has ended.
            AssertionError: it says nothing for ten minutes.
        """
        assert self.line.poll(PATIENCE_SECONDS), f"nothing is said; see {self.errors}"
        try:
            return self.line.recv()
        except ConnectionResetError:
            raise EOFError from None

    def call(self, function: Callable[..., Answer], *arguments: Any, listen: Tell = lambda _: None) -> Answer:
        """Call a function and return its answer."""
        self.start(function, *arguments)
        try:
            while isinstance(said := self.next(), Event):
                listen(said)
        except EOFError:
            raise AssertionError(self.errors.read_text()[-3000:]) from None
        answer: Answer = said
        return answer

    def until(self, kind: str, name: str) -> None:
        """Wait until it tells of this event."""
        while True:
            said = self.next()
            assert isinstance(said, Event), said
            if (said.kind, said.name) == (kind, name):
                return

    def end(self) -> None:
        """Have it end, if it has not yet."""
        self.line.close()
        self.child.wait(PATIENCE_SECONDS)


def serve(line: Connection) -> None:
    """Call what is asked for, until nobody asks any more."""
    settings = Settings.load()
    while True:
        try:
            function, arguments = line.recv()
        except EOFError:
            return
        line.send(function(settings, line.send, *arguments))


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
