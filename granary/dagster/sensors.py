"""What the daemon looks after between the runs. These sensors start nothing, so they are on by default."""

import json
from collections.abc import Sequence
from typing import Any

import dagster as dg

from granary.dagster.instance import IN_PROCESS
from granary.dagster.loader_assets import FRESH_CHECK, fresh_check, key_of
from granary.dagster.resources import Warehouse
from granary.dagster.rest_of_run import REST_OF, assets_to_build, failed_loaders, is_daily, still_loaded
from granary.dagster.run_locks import fail_dead_runs
from granary.dagster.run_records import keep_runs
from granary.dagster.windows import WINDOW_TAG
from granary.load.freshness import Freshness, freshness
from granary.warehouse.settings import Settings

REAP_SECONDS, REST_SECONDS, FRESH_SECONDS = 30, 60, 900


@dg.sensor(
    name="dead_runs",
    minimum_interval_seconds=REAP_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Marks runs whose process was killed as failed, so that those behind them in the queue go on.",
)
def dead_runs(context: dg.SensorEvaluationContext, warehouse: Warehouse) -> dg.SkipReason:
    """Mark dead runs, and keep in the run ledger how runs have ended."""
    dead = fail_dead_runs(warehouse.settings, context.instance)
    keep_runs(warehouse.settings, context.instance)
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


def rest_of_runs(jobs: Sequence[Any]) -> dg.SensorDefinition:
    """Return the sensor that asks for the rest of a run in which a load failed: see `granary.dagster.rest_of_run`."""

    @dg.run_failure_sensor(
        name="rest_of_runs",
        minimum_interval_seconds=REST_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        monitored_jobs=list(jobs),
        request_jobs=list(jobs),
        description="Builds what does not follow from tables that could not be loaded alone: sources do not wait.",
    )
    def ask(context: dg.RunFailureSensorContext) -> dg.RunRequest | dg.SkipReason:
        return ask_for_rest(context)

    return ask


def ask_for_rest(context: dg.RunFailureSensorContext) -> dg.RunRequest | dg.SkipReason:
    """Ask for the rest of a run that failed, unless it is one, or looks after its rest itself."""
    run = context.dagster_run
    if {REST_OF, IN_PROCESS} & set(run.tags):
        return dg.SkipReason("its rest was built already")
    graph = context.repository_def.asset_graph  # type: ignore[union-attr]
    failed = failed_loaders(context.instance.all_logs(run.run_id))
    selected = run.asset_selection or context.repository_def.get_job(run.job_name).asset_layer.selected_asset_keys  # type: ignore[union-attr]
    keys = assets_to_build(graph, selected, failed, still_loaded(Settings.load(), failed)) if failed else []
    if not keys:
        return dg.SkipReason("no load failed, or nothing is left to build")
    daily = is_daily(graph, keys)
    of_dbt = dict(run.run_config).get("ops", {}).get("dbt")  # type: ignore[attr-defined]
    return dg.RunRequest(
        run_key=run.run_id,
        job_name=run.job_name,
        asset_selection=keys,
        partition_key=run.tags.get("dagster/partition") if daily else None,
        tags={REST_OF: run.run_id} | ({WINDOW_TAG: run.tags[WINDOW_TAG]} if daily and WINDOW_TAG in run.tags else {}),
        run_config={"ops": {"dbt": of_dbt}} if of_dbt else {},
    )


SENSORS = [dead_runs, freshness_of_sources]
