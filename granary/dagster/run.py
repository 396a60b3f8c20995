"""Run a job of the definitions in this process, against the real Dagster instance, and say what happened.

The run, its events, logs and checks are in the UI afterwards just like those of a run that the UI started.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from granary.dagster.instance import (
    EVERYTHING,
    FULL_REFRESH,
    environment,
    in_code_location,
    inside,
    open_instance,
    prepare_instance,
)
from granary.dagster.pending import pending, quiet_day
from granary.dagster.run_locks import fail_dead_runs
from granary.dagster.windows import Window, window_of_run
from granary.dbt import ahead, last_build, runner
from granary.dbt import manifest as dbt_manifest
from granary.dbt.run_events import Event, Problem, listening
from granary.warehouse import steps
from granary.warehouse.connection import connect
from granary.warehouse.errors import UsageError, unknown

if TYPE_CHECKING:
    from pathlib import Path

    import dagster as dg

    from granary.warehouse.settings import Settings


@dataclass(frozen=True)
class AssetOutcome:
    """One table, view or source table that a run brought up to date."""

    name: str
    group: str
    rows: int | None
    seconds: float


@dataclass(frozen=True)
class RunOutcome:
    """What a run did.

    `failures` say what went wrong, where, and what to do; `warnings` name the tests that only warn; `checks_by_group`
    counts the tests that passed by the group of what they are about; `seconds` include dbt's parsing if it had to.
    """

    success: bool
    run_id: str
    job: str
    seconds: float
    window: Window | None
    assets: tuple[AssetOutcome, ...]
    checks_passed: int
    checks_failed: int
    checks_by_group: dict[str, int]
    warnings: tuple[str, ...]
    failures: tuple[Problem, ...]
    log: Path


OUTSIDE = frozenset(
    {
        "GranaryError",
        "LockHeldError",
        "DiskFull",
        "AdminShutdown",
        "CrashShutdown",
        "CannotConnectNow",
        "QueryCanceled",
        "InsufficientPrivilege",
        "TooManyConnections",
        "OutOfMemory",
        "MemoryError",
        "OSError",
        "PermissionError",
        "FileNotFoundError",
        "ConnectionError",
        "TimeoutError",
        "DagsterPostgresException",
    }
)
"""Errors that the machine or the server makes, and no defect of ours."""


@dataclass
class _Seen:
    """What the events of a run added up to so far."""

    assets: dict[str, AssetOutcome] = field(default_factory=dict)
    checks: dict[str, Event] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def note(self, event: Event | Problem) -> None:
        if isinstance(event, Problem):
            self.problems.append(event)
        elif event.kind == "checked":
            self.checks[event.name] = event
        elif event.kind in ("materialized", "finished"):
            self.assets[event.name] = AssetOutcome(event.name, event.group, event.rows, event.seconds)


def run_job(
    settings: Settings,
    job: str,
    *,
    window: Window | None = None,
    full_refresh: bool = False,
    on_event: Callable[[Event], None] = lambda _: None,
) -> RunOutcome:
    """Run a job, with the partitions of `window` if it has any, and wait for its end.

    With no window it covers the days that are waiting to be loaded, and rebuilds only days that changed; with one, the
    facts overwrite these days in any case. Runs whose process was killed are marked as failed first.

    Standard output and error of the process go to the run's log meanwhile: what listens to `on_event` must print to a
    stream that it opened before (`terminal()`).

    A run to which nothing new is announced, and whose last build saw all that there is, only loads; if that brings
    something all the same, as from a database, a second run builds. Where a load fails, the second run builds what
    follows from other tables as well, on its table as it stands.

    Ctrl-C and SIGTERM roll the open transaction back, stop dbt, mark the run as canceled and raise KeyboardInterrupt.

    Raises:
        GranaryError: the server does not answer, dbt cannot parse the project, or there is no such job.
        KeyboardInterrupt: the run was interrupted.
    """
    started = time.monotonic()
    prepare_instance(settings)
    log = settings.home / "dagster" / "run.log"
    with inside(environment(settings)), interruptible(), silenced(log), ending():
        waiting, project = pending(settings), dbt_manifest.fingerprint(settings)

        def is_built() -> bool:
            return last_build.is_of(settings, last_build.state(settings, project))

        quiet = job == EVERYTHING and not (window or full_refresh or waiting) and is_built()
        if not quiet:
            ahead.start(settings, project)
        from granary.dagster.execution import Execution  # noqa: PLC0415 - Dagster takes 2 s, and must see the environment
        from granary.dagster.jobs import run_config  # noqa: PLC0415
        from granary.dagster.loader_assets import loaded_dates  # noqa: PLC0415
        from granary.dagster.rest_of_run import failed_loaders  # noqa: PLC0415

        name = FULL_REFRESH if full_refresh else job
        definitions, job_definition = _job(settings, name)
        with open_instance() as instance:
            fail_dead_runs(settings, instance)
            chosen = None
            if job_definition.partitions_def is not None:
                found = window_of_run(waiting, loaded_dates(instance), full_refresh=name == FULL_REFRESH)
                chosen = window or found or quiet_day(settings)
            elif window:
                raise UsageError(f"job {name} is not about single days", "orchestration/jobs.py", "give no dates")
            seen = _Seen()

            def listen(event: Event | Problem) -> None:
                seen.note(event)
                if isinstance(event, Event):
                    on_event(event)

            in_code_location(instance, name)
            execution = Execution(
                settings, instance, definitions, job_definition, chosen, run_config(name, rebuild=window is not None)
            )
            on_event(planned(settings, job_definition))
            with listening(listen):
                results = [execution.load() if quiet else execution.run()]
                if not results[0].success and not seen.problems:
                    seen.problems += unexplained(results[0], log)
                rest = None
                if not was_interrupted(instance, results[0]):
                    if failed_loaders(results[0].all_events):
                        rest = execution.rest(results[0])
                    elif quiet and not is_built():
                        rest = execution.build(results[0])
                    elif quiet:
                        on_event(Event("skipped", "dbt", "every model", detail=last_build.SAME))
                results += [rest] if rest else []
                interrupted = was_interrupted(instance, results[-1])
    if interrupted:
        raise KeyboardInterrupt
    failed = [event for event in seen.checks.values() if event.severity == "error"]
    success = all(result.success for result in results) and not failed
    return RunOutcome(
        success=success,
        run_id=results[0].run_id,
        job=name,
        seconds=time.monotonic() - started,
        window=chosen,
        assets=tuple(seen.assets.values()),
        checks_passed=sum(1 for event in seen.checks.values() if event.passed),
        checks_failed=len(failed),
        # A plain dict: before Python 3.12 `asdict` makes nonsense of a Counter.
        checks_by_group=dict(Counter(event.group for event in seen.checks.values() if event.passed)),
        warnings=tuple(event.name for event in seen.checks.values() if event.severity == "warn"),
        failures=() if success else tuple(seen.problems or unexplained(results[-1], log)),
        log=log,
    )


def planned(settings: Settings, job: dg.JobDefinition) -> Event:
    """Return what is told of a job that begins: its steps, and the seconds of those that earlier runs know."""
    from granary.dagster.loader_assets import KEYS  # noqa: PLC0415

    keys = job.asset_layer.selected_asset_keys
    names = [".".join(key.path) if key in KEYS else key.path[-1] for key in keys]
    with connect(settings) as connection:
        known = steps.expected(connection, is_full=job.name == FULL_REFRESH)
    times = {name: known[name] for name in names if name in known}
    return Event("planned", "load", job.name, rows=len(names), expected=times)


def _job(settings: Settings, name: str) -> tuple[dg.Definitions, dg.JobDefinition]:
    from granary.dagster.assemble import of_project  # noqa: PLC0415

    definitions = of_project(settings)
    if not definitions.get_repository_def().has_job(name):
        names = [one.name for one in definitions.resolve_all_job_defs() if not one.name.startswith("__")]
        raise unknown("job", name, names, "orchestration/jobs.py")
    return definitions, definitions.resolve_job_def(name)


def unexplained(result: dg.ExecuteInProcessResult, log: Path) -> list[Problem]:
    """Return the failures of a run that no step could explain: defects, or Dagster's own."""
    problems = []
    for event in result.all_events:
        error = getattr(event.event_specific_data, "error", None) if event.is_step_failure else None
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            what = f"step {event.step_key} failed: {' '.join(error.message.split())[:400]}"
            outside = error.cls_name in OUTSIDE or str(error.cls_name).endswith("OperationalError")
            todo = "fix that, and run again" if outside else "this is a defect: please report it with that log"
            problems.append(Problem(what, str(log), todo))
    return problems or [Problem("the run failed", str(log), "read its log")]


def terminal(stream: TextIO) -> TextIO:
    """Return a stream to where `stream` writes now, for use while a run has redirected standard output and error."""
    return os.fdopen(os.dup(stream.fileno()), "w", buffering=1, encoding="utf-8", errors="replace")


@contextmanager
def silenced(log: Path) -> Iterator[None]:
    """Send what this process and its children print to a file; Dagster and dbt print every line of their logs.

    Dagster keeps the output of the steps for the UI by itself. File descriptors are redirected, not Python's streams,
    because that is what children inherit.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    with log.open("w") as file:
        try:
            for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
                stream.flush()
                os.dup2(file.fileno(), descriptor)
            yield
        finally:
            for stream, descriptor, original in zip((sys.stdout, sys.stderr), (1, 2), kept, strict=True):
                stream.flush()
                os.dup2(original, descriptor)
                os.close(original)


@contextmanager
def ending() -> Iterator[None]:
    """Leave no dbt behind when a run ends, however it does."""
    try:
        yield
    finally:
        ahead.stop()
        runner.stop_all()


@contextmanager
def interruptible() -> Iterator[None]:
    """Have SIGTERM raise KeyboardInterrupt like Ctrl-C does; Dagster does the same while a step runs.

    Both are set, since Dagster copies the handler of SIGINT to SIGTERM, and a shell starts background jobs with SIGINT
    ignored: such a run could not be stopped at all.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {sign: signal.signal(sign, signal.default_int_handler) for sign in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def was_interrupted(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> bool:
    """Return whether a run ended because somebody stopped it."""
    run = instance.get_run_by_id(result.run_id)
    return run is not None and (
        run.status.value in ("CANCELED", "CANCELING")
        or run.tags.get("dagster/failure_reason") == "UNEXPECTED_TERMINATION"
    )
