"""The runs that there were, as Dagster and the ledger keep them, for the command."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from granary.dagster.instance import environment, inside, open_instance, prepare_instance
from granary.dagster.run_locks import fail_dead_runs
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import dagster as dg

    from granary.warehouse.settings import Settings

CHANGED = """
    select run_id, source || '.' || table_name, sum(rows_loaded)::bigint
    from ops.load_audit
    where status = 'loaded' and run_id = any($1)
    group by run_id, source, table_name
    order by source, table_name
"""
SHORTEST_ID = 4
"""Characters of a run's id that name it, if no other begins so."""


@dataclass(frozen=True)
class Run:
    """A run: its state in Dagster's words, when it began, how long it took, and the tables that it loaded rows into."""

    run_id: str
    job: str
    state: str
    window: str
    started_at: datetime | None
    seconds: float | None
    changed: dict[str, int]


@dataclass(frozen=True)
class Line:
    """Something that a run said: when, in which step, and what; of an error all of its words."""

    at: datetime
    level: str
    step: str
    words: str


def runs(settings: Settings, limit: int) -> list[Run]:
    """Return the newest runs, the newest first; those whose process is gone are marked as failed before."""
    prepare_instance(settings)
    with inside(environment(settings)), open_instance() as instance:
        fail_dead_runs(settings, instance)
        records = instance.get_run_records(limit=limit)
    with connect(settings) as connection:
        changed: dict[str, dict[str, int]] = {}
        for run_id, table, rows in query(connection, CHANGED, [one.dagster_run.run_id for one in records]):
            changed.setdefault(str(run_id), {})[str(table)] = int(rows)
    return [_run(one, changed.get(one.dagster_run.run_id, {})) for one in records]


def _run(record: dg.RunRecord, changed: dict[str, int]) -> Run:
    run = record.dagster_run
    began = None if record.start_time is None else datetime.fromtimestamp(record.start_time, timezone.utc)
    ended = record.end_time or (datetime.now(timezone.utc).timestamp() if not run.is_finished else None)
    seconds = None if record.start_time is None or ended is None else ended - record.start_time
    window = run.tags.get("granary/window", "")
    return Run(run.run_id, run.job_name, run.status.value, window, began, seconds, changed)


def log(settings: Settings, name: str | None, *, everything: bool) -> tuple[str, list[Line]]:
    """Return the id of a run and what it said.

    Args:
        settings: the warehouse.
        name: the beginning of the run's id; None for the last run that failed, or else the last one.
        everything: also what is of no interest when all goes well (Dagster's own steps).

    Raises:
        UsageError: no run, or more than one, begins so.
    """
    import dagster as dg  # noqa: PLC0415 - takes 2 s

    prepare_instance(settings)
    with inside(environment(settings)), open_instance() as instance:
        fail_dead_runs(settings, instance)
        if name is None:
            failed = instance.get_runs(filters=dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]), limit=1)
            found = list(failed or instance.get_runs(limit=1))
        else:
            found = [run for run in instance.get_runs() if run.run_id.startswith(name) and len(name) >= SHORTEST_ID]
        if len(found) != 1:
            what = "there was no run yet" if name is None else f"{len(found)} runs have an id that begins with {name!r}"
            raise UsageError(what, todo="see `granary runs`")
        entries = instance.all_logs(found[0].run_id)
    return found[0].run_id, list(_lines(entries, everything=everything))


def _lines(entries: Any, *, everything: bool) -> Iterator[Line]:
    for entry in entries:
        event = entry.dagster_event
        error = entry.error_info or getattr(event and event.event_specific_data, "error", None)
        level = "ERROR" if error or (event and event.is_failure) else _level(entry.level)
        if event is not None and level != "ERROR" and not everything and event.event_type_value not in TOLD:
            continue
        words = [entry.user_message or entry.message]
        while error is not None:
            words.append(error.message.strip())
            error = error.cause
        at = datetime.fromtimestamp(entry.timestamp, timezone.utc)
        yield Line(at, level, entry.step_key or "", "\n".join(words))


TOLD = frozenset({"PIPELINE_START", "PIPELINE_SUCCESS", "PIPELINE_CANCELED", "STEP_SUCCESS", "STEP_SKIPPED"})
"""Dagster's own events that a person reads, beside failures and what the steps say."""


def _level(number: Any) -> str:
    names = {10: "INFO", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "ERROR"}
    return names.get(int(number), "INFO")
