"""One `dbt build`, whoever asks for it: a run of Dagster, a replay, an erasure.

Each works under the warehouse's build lock, in a folder that has the parsed project and keeps dbt's artifacts, and
leaves no process behind. What went wrong is raised as problems that a person can act on.
"""

from __future__ import annotations

import atexit
import json
import shutil
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from granary.dbt import manifest as dbt_manifest
from granary.dbt import run_events
from granary.dbt.failures import FindCause, problems_of
from granary.dbt.manifest_nodes import marts_schema
from granary.warehouse.build_lock import HELD, building
from granary.warehouse.filelock import notify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from granary.dbt.run_events import Problem
    from granary.warehouse.settings import Settings

BUILD = ("build", "--exclude-resource-type", "unit_test")
PATIENCE_SECONDS = 20
RESULTS = "run_results.json"


class Started(Protocol):
    """What a way to start dbt returns."""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process."""
        ...


S = TypeVar("S", bound=Started)


class BuildError(Exception):
    """dbt ended with failures; `transient` if trying the failed nodes again may help."""

    def __init__(self, problems: list[Problem], *, transient: bool) -> None:
        """Keep what failed."""
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems, self.transient = problems, transient


@dataclass(frozen=True)
class _Process:
    process: subprocess.Popen[bytes]


@dataclass(frozen=True)
class Runner:
    """Runs dbt on the project as `manifest` describes it; its artifacts are in `target`."""

    settings: Settings
    manifest: Mapping[str, Any]
    target: Path

    def run(self, arguments: Sequence[str], **variables: str) -> None:
        """Run dbt to its end, with these environment variables as well.

        Raises:
            BuildError: dbt reported failures.
            GranaryError: another build has been at it for too long.
        """

        def start(command: list[str], environment: dict[str, str]) -> _Process:
            quiet = subprocess.DEVNULL
            return _Process(
                subprocess.Popen(
                    command,
                    cwd=dbt_manifest.PROJECT_DIR,
                    env=environment | variables,
                    stdin=quiet,
                    stdout=quiet,
                    stderr=quiet,
                )
            )

        with self.running(arguments, start) as started:
            started.process.wait()

    @contextmanager
    def running(
        self,
        arguments: Sequence[str],
        start: Callable[[list[str], dict[str, str]], S],
        find_cause: FindCause = lambda *_: None,
    ) -> Iterator[S]:
        """Have `start` start dbt, given its command and environment; yield what it returns until dbt has ended.

        Raises:
            BuildError: dbt reported failures; `find_cause` says which load and row a model failed on, if it can.
            GranaryError: another build has been at it for too long.
        """
        self._prepare(again=arguments[0] == "retry")
        with building(self.settings, marts_schema(self.manifest["nodes"].values()), say, interrupt_all):
            environment = dbt_manifest.environment(self.settings, self.target) | {HELD: "yes"}
            started = start([*dbt_manifest.DBT, *arguments], environment)
            _alive.add(started.process)
            try:
                yield started
            finally:
                stop(started.process)
        if started.process.returncode:
            problems, transient = problems_of(self.target, self.manifest, find_cause)
            raise BuildError(problems, transient=transient)

    def results(self) -> list[dict[str, Any]]:
        """Return the results of the nodes that dbt worked on, none if it did not get that far."""
        path = self.target / RESULTS
        return list(json.loads(path.read_bytes())["results"]) if path.exists() else []

    def _prepare(self, *, again: bool) -> None:
        """Make the folder, with the parsed project in it, and without another build's results unless they are to be."""
        self.target.mkdir(parents=True, exist_ok=True)
        if not again:
            (self.target / RESULTS).unlink(missing_ok=True)
            parsed = dbt_manifest.folder(self.settings) / dbt_manifest.PARTIAL_PARSE
            if parsed.exists():
                shutil.copy(parsed, self.target / parsed.name)


def say(text: str) -> None:
    """Say what a build waits for."""
    notify(text)
    run_events.emit(run_events.Event("waiting", "dbt", "dbt", detail=text))


def stop(process: subprocess.Popen[bytes]) -> None:
    """Make sure that dbt is gone: as Ctrl-C first, so that it cancels its queries, then without asking."""
    _alive.discard(process)
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        try:
            process.wait(timeout=0 if sign == signal.SIGINT else PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(sign)
        else:
            return
    process.wait()


def interrupt_all() -> None:
    """Send Ctrl-C to every dbt that runs; may be called in any thread."""
    for process in list(_alive):
        process.send_signal(signal.SIGINT)


def stop_all() -> None:
    """Stop the dbt of every step that Dagster dropped without closing it.

    It does so when a signal comes between two of the step's results: it raises before it goes back into our code.
    """
    for process in list(_alive):
        stop(process)


_alive: set[subprocess.Popen[bytes]] = set()
atexit.register(stop_all)
