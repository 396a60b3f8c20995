"""Dagster's runs in the run ledger: whoever started them, and wherever they ran, out of Dagster's own records."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

import dagster as dg

from granary.warehouse import run_ledger
from granary.warehouse.connection import connect, query
from granary.warehouse.run_ledger import Run

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

LOOKED_AT = 50
"""Newest runs that are looked at: more do not end between two looks, half a minute apart."""
ENDED = {"SUCCESS": "succeeded", "FAILURE": "failed", "CANCELED": "canceled"}
STARTED_BY = "granary/started_by"
"""Tag of the runs of the command, with the user who gave it."""
SETTLED = "select run_id from ops.runs where run_id = any($1) and status <> 'running'"
FAILURES = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE, dg.DagsterEventType.RUN_CANCELED}
_begun = run_ledger.usage()


def keep_usage(settings: Settings, run: dg.DagsterRun) -> None:
    """Keep what a run took of this process, which executes it alone."""
    global _begun
    now = run_ledger.usage()
    taken, _begun = now.since(_begun), now
    began = datetime.now(timezone.utc)
    who = run_ledger.starter_of(run.tags)
    run_ledger.keep(settings, [Run(run.run_id, "job", run.job_name, began, "running", started_by=who, **vars(taken))])


def keep_runs(settings: Settings, instance: dg.DagsterInstance) -> list[str]:
    """Keep how the last runs ended, and that others have begun; return the ids of those that were not kept as ended."""
    found = instance.get_run_records(limit=LOOKED_AT)
    kept: list[str] = []
    with run_ledger.warned("the runs of Dagster"):
        with connect(settings, role="loader") as connection:
            run_ledger.briefly(connection)
            settled = {str(row[0]) for row in query(connection, SETTLED, [one.dagster_run.run_id for one in found])}
        new = [one for one in found if one.start_time and one.dagster_run.run_id not in settled]
        runs = [_run(instance, one, one.start_time) for one in new if one.start_time]
        if runs and run_ledger.keep(settings, runs):
            kept = [run.run_id for run in runs if run.status != "running"]
    return kept


def _run(instance: dg.DagsterInstance, record: dg.RunRecord, began: float) -> Run:
    run = record.dagster_run
    status = ENDED.get(run.status.value, "running")
    ended = None if record.end_time is None else datetime.fromtimestamp(record.end_time, timezone.utc)
    return Run(
        run.run_id,
        "job",
        run.job_name,
        datetime.fromtimestamp(began, timezone.utc),
        status,
        finished_at=ended,
        cause=_cause(instance, run.run_id) if status in ("failed", "canceled") else None,
        started_by=run_ledger.starter_of(run.tags),
    )


def _cause(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """Return the first failure that a run told of."""
    for entry in instance.all_logs(run_id, of_type=FAILURES):
        event = entry.dagster_event
        error = getattr(event and event.event_specific_data, "error", None)
        while error is not None and error.cause is not None:
            error = error.cause
        if words := (error.message if error else event.message if event else ""):
            return run_ledger.cause_of(str(words))
    return None
