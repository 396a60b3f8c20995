"""What the daemon looks after between the runs. These sensors start nothing, so they are on by default."""

import json

import dagster as dg

from ingestion.freshness import Freshness, freshness
from orchestration.alive import reap
from orchestration.defs.loaders import FRESH_CHECK, fresh_check, key_of
from orchestration.defs.resources import Warehouse

REAP_SECONDS, FRESH_SECONDS = 30, 900


@dg.sensor(
    name="dead_runs",
    minimum_interval_seconds=REAP_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Marks runs whose process was killed as failed, so that those behind them in the queue go on.",
)
def dead_runs(context: dg.SensorEvaluationContext, warehouse: Warehouse) -> dg.SkipReason:
    """Mark dead runs."""
    dead = reap(warehouse.settings, context.instance)
    return dg.SkipReason(f"marked as failed: {', '.join(dead)}" if dead else "every run that began is at work")


@dg.sensor(
    name="freshness",
    minimum_interval_seconds=FRESH_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Says of each source table whether something new came in the time that its contract allows.",
)
def freshness_of_sources(context: dg.SensorEvaluationContext, warehouse: Warehouse) -> dg.SensorResult:
    """Report the checks whose verdict has changed: a source falls silent between the runs, and when none runs."""
    found = freshness(warehouse.settings)
    verdicts = {f"{one.source}.{one.table}": one.is_late for one in found}
    before = json.loads(context.cursor or "{}")
    changed = [one for one in found if before.get(f"{one.source}.{one.table}") != one.is_late]
    if not changed:
        return dg.SensorResult(skip_reason="as before")
    return dg.SensorResult(asset_events=[evaluation(one) for one in changed], cursor=json.dumps(verdicts))


def evaluation(one: Freshness) -> dg.AssetCheckEvaluation:
    """Return the check of a table for a report outside of a run."""
    check = fresh_check(one)
    return dg.AssetCheckEvaluation(
        asset_key=key_of(one.source, one.table),
        check_name=FRESH_CHECK,
        passed=check.passed,
        severity=check.severity,
        metadata=check.metadata,
        description=check.description,
    )


SENSORS = [dead_runs, freshness_of_sources]
