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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO
from uuid import uuid4

from granary.dagster.instance import (
    CODE_LOCATION,
    IN_PROCESS,
    environment,
    in_code_location,
    inside,
    open_instance,
    prepare_instance,
)
from granary.dagster.run_locks import fail_dead_runs, held
from granary.dagster.windows import Window, window_of_run, window_tag
from granary.dbt.run_events import Event, Problem, listening
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

    Where a load fails, a second run builds what follows from other tables as well, on its table as it stands.

    Ctrl-C and SIGTERM roll the open transaction back, stop dbt, mark the run as canceled and raise KeyboardInterrupt.

    Raises:
        GranaryError: the server does not answer, dbt cannot parse the project, or there is no such job.
        KeyboardInterrupt: the run was interrupted.
    """
    started = time.monotonic()
    prepare_instance(settings)
    log = settings.home / "dagster" / "run.log"
    with inside(environment(settings)), interruptible(), silenced(log):
        from granary.dagster.jobs import FULL_REFRESH  # noqa: PLC0415 - Dagster takes 2 s, and must see the environment
        from granary.dagster.pending import loaded_dates, pending, quiet_day, run_config  # noqa: PLC0415
        from granary.dagster.rest_of_run import REST_OF, assets_to_build, failed_loaders, is_daily, still_loaded  # noqa: PLC0415

        name = FULL_REFRESH if full_refresh else job
        definitions, job_definition = _job(settings, name)
        with open_instance() as instance:
            fail_dead_runs(settings, instance)
            chosen = None
            if job_definition.partitions_def is not None:
                found = window_of_run(pending(settings), loaded_dates(instance), full_refresh=name == FULL_REFRESH)
                chosen = window or found or quiet_day(settings)
            elif window:
                raise UsageError(f"job {name} is not about single days", "orchestration/jobs.py", "give no dates")
            seen = _Seen()

            def listen(event: Event | Problem) -> None:
                seen.note(event)
                if isinstance(event, Event):
                    on_event(event)

            graph, selected = definitions.resolve_asset_graph(), job_definition.asset_layer.selected_asset_keys
            in_code_location(instance, name)
            config = run_config(name, rebuild=window is not None)

            def execute(config: dict[str, Any], keys: Sequence[dg.AssetKey] | None = None, **tags: str) -> Any:
                run_id = str(uuid4())
                day = chosen if chosen and (keys is None or is_daily(graph, keys)) else None
                with held(settings, run_id):
                    return job_definition.execute_in_process(
                        instance=instance,
                        run_id=run_id,
                        raise_on_error=False,
                        partition_key=day[1].isoformat() if day else None,
                        tags={**CODE_LOCATION, IN_PROCESS: "true", **(window_tag(day) if day else {}), **tags},
                        run_config=config,
                        asset_selection=keys,
                    )

            on_event(Event("planned", "load", name, rows=len(selected)))
            with listening(listen), ending():
                result = execute(config)
                if not result.success and not seen.problems:
                    seen.problems += unexplained(result, log)
                failed_loads = failed_loaders(result.all_events)
                interrupted = was_interrupted(instance.get_run_by_id(result.run_id))
                keys: list[dg.AssetKey] = []
                if failed_loads and not interrupted:
                    keys = assets_to_build(graph, selected, failed_loads, still_loaded(settings, failed_loads))
                if keys:
                    of_dbt = {**config, "ops": {"dbt": config["ops"]["dbt"]}}
                    last = execute(of_dbt, keys, **{REST_OF: result.run_id})
                    interrupted = was_interrupted(instance.get_run_by_id(last.run_id))
    if interrupted:
        raise KeyboardInterrupt
    failed = [event for event in seen.checks.values() if event.severity == "error"]
    return RunOutcome(
        success=result.success and not failed,
        run_id=result.run_id,
        job=name,
        seconds=time.monotonic() - started,
        window=chosen,
        assets=tuple(seen.assets.values()),
        checks_passed=sum(1 for event in seen.checks.values() if event.passed),
        checks_failed=len(failed),
        # A plain dict: before Python 3.12 `asdict` makes nonsense of a Counter.
        checks_by_group=dict(Counter(event.group for event in seen.checks.values() if event.passed)),
        warnings=tuple(event.name for event in seen.checks.values() if event.severity == "warn"),
        failures=() if result.success and not failed else tuple(seen.problems or unexplained(result, log)),
        log=log,
    )


def _job(settings: Settings, name: str) -> tuple[dg.Definitions, dg.JobDefinition]:
    from granary.dagster.assemble import of_project  # noqa: PLC0415

    definitions = of_project(settings)
    names = [one.name for one in definitions.resolve_all_job_defs() if not one.name.startswith("__")]
    if name not in names:
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
    from granary.dbt.runner import stop_all  # noqa: PLC0415

    try:
        yield
    finally:
        stop_all()


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


def was_interrupted(run: dg.DagsterRun | None) -> bool:
    """Return whether a run ended because somebody stopped it."""
    return run is not None and (
        run.status.value in ("CANCELED", "CANCELING")
        or run.tags.get("dagster/failure_reason") == "UNEXPECTED_TERMINATION"
    )
