"""The whole dbt project as assets, its tests as asset checks, run by one dbt process.

One `@dbt_assets` definition holds the daily facts and the rest; the partitions are set asset by asset. With two
definitions Dagster splits the rest into what comes before and what comes after the facts, since these lie in the middle
of the graph: three dbt processes one after the other, each with some 4 s of start, none in parallel with the next.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import dagster as dg

from granary.dagster import archived_rows
from granary.dagster.dagster_dbt_alone import dbt_assets
from granary.dagster.dbt_build import RETRIES, RETRY_SECONDS, Build
from granary.dagster.loader_assets import KEYS, POOL
from granary.dagster.publish_checks import ASSET as RESTATEMENTS
from granary.dagster.publish_checks import PUBLISH_CHECKS
from granary.dagster.resources import RunOptions, Warehouse, earlier_days
from granary.dagster.retention import prune_daily
from granary.dagster.signals import stoppable
from granary.dagster.translator import Translator
from granary.dagster.windows import Window, dbt_vars, window_of_tags
from granary.dbt import last_build, unfinished
from granary.dbt import manifest as dbt_manifest
from granary.dbt.run_events import Event, Problem, emit
from granary.dbt.runner import BuildError, interrupt_all
from granary.warehouse.environment_errors import plainly
from granary.warehouse.settings import Settings
from granary.warehouse.words import plural

VERDICTS_LOOKED_AT = 20
"""Plans without a verdict that a check may have: of runs that failed before dbt, and of this one."""
EVALUATED_BY = "evaluated by run"


class DbtOptions(RunOptions):
    """What a person may choose for the dbt step."""

    overwrite_window: bool = True
    """Have the facts overwrite the run's partitions even where nothing new was loaded."""

    def window(self, context: dg.AssetExecutionContext) -> Window | None:
        """Return the days that the facts are to overwrite in any case."""
        return window_of_tags(context.run.tags) if self.overwrite_window else None


def dbt_definition(
    manifest: Mapping[str, Any], days: dg.DailyPartitionsDefinition
) -> tuple[dg.AssetsDefinition, Translator]:
    """Return the assets of the project, and the translator that named them."""
    translator = Translator(days)

    @dbt_assets(
        manifest=manifest,
        name="dbt",
        dagster_dbt_translator=translator,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=POOL,
    )
    def dbt(context: dg.AssetExecutionContext, config: DbtOptions, warehouse: Warehouse) -> Iterator[Any]:
        build = Build(warehouse.settings, manifest, translator, context)
        arguments = [] if context.retry_number else build_arguments(context, config, manifest)
        now = last_build.state(warehouse.settings, dbt_manifest.fingerprint(warehouse.settings))
        asked_for = context.is_subset or config.full_refresh or config.window(context)
        if not asked_for and last_build.is_of(warehouse.settings, now):
            emit(Event("skipped", "dbt", "every model", detail=last_build.SAME))
            yield from verdicts(context)
            prune_daily(warehouse.settings)
            return
        build_of = unfinished.about(now, config.window(context), full_refresh=config.full_refresh)
        if not context.is_subset and not context.retry_number:
            arguments += what_is_left(warehouse.settings, build_of, manifest)
        try:
            # Closed at once when Dagster interrupts us between two results, so that dbt does not outlive the step.
            with (
                stoppable(context, interrupt_all),
                closing(build.run(arguments, None if context.is_subset else build_of)) as results,
            ):
                for result in results:
                    if isinstance(result, dg.Output):
                        for day in earlier_days(context, context.asset_key_for_output(result.output_name)):
                            context.log_event(day)
                    yield result
            if not context.is_subset:
                last_build.keep(warehouse.settings, now)
                unfinished.finished(warehouse.settings, build_of)
            archived_rows.move_again(context, warehouse.settings)
            prune_daily(warehouse.settings)
        except BuildError as failure:
            if archived_rows.came_back(context, warehouse.settings, failure):
                raise dg.RetryRequested(max_retries=context.retry_number + 1, seconds_to_wait=0) from failure
            if failure.transient and context.retry_number < RETRIES:
                emit(Event("retrying", "dbt", "dbt", detail=str(failure)))
                raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=RETRY_SECONDS) from failure
            for problem in failure.problems:
                emit(problem)
            raise dg.Failure(str(failure), allow_retries=False) from failure
        except Exception as failure:
            if (error := plainly(failure)) is None:
                raise
            emit(Problem(f"dbt cannot be run: {error.what}", error.where, error.todo))
            raise dg.Failure(str(error), allow_retries=False) from failure

    return dbt, translator


def verdicts(context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckResult]:
    """Yield each check as it was evaluated last: on tables that are the same it has the same verdict.

    A check that a run plans and leaves out is "skipped" for Dagster, and what it had found is no longer shown. The
    checks of publishing are steps that Dagster leaves out with this one, so they are reported beside the run.
    """
    for key in sorted(context.selected_asset_check_keys):
        if last := evaluated(context.instance, key):
            yield dg.AssetCheckResult(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=last.passed,
                severity=last.severity,
                description=last.description,
                metadata=last.metadata,
            )
    for name in PUBLISH_CHECKS:
        if last := evaluated(context.instance, dg.AssetCheckKey(RESTATEMENTS, name)):
            context.instance.report_runless_asset_event(last)


def evaluated(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
    """Return the newest verdict of a check, which names the run that reached it."""
    for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=VERDICTS_LOOKED_AT):
        if isinstance(last := record.evaluation, dg.AssetCheckEvaluation):
            return dg.AssetCheckEvaluation(
                key.asset_key,
                key.name,
                last.passed,
                metadata={EVALUATED_BY: record.run_id, **last.metadata},
                severity=last.severity,
                description=last.description,
            )
    return None


def build_arguments(context: dg.AssetExecutionContext, config: DbtOptions, manifest: Mapping[str, Any]) -> list[str]:
    """Return the arguments of `dbt build` for what the run selects."""
    if config.full_refresh:
        arguments = ["--full-refresh"]
    else:
        arguments = ["--vars", json.dumps(dbt_manifest.INCREMENTAL_VARS | dbt_vars(config.window(context)))]
    if context.is_subset:
        arguments += ["--indirect-selection", "empty", "--select", *selection(context, manifest)]
    return arguments


def what_is_left(settings: Settings, build: str, manifest: Mapping[str, Any]) -> list[str]:
    """Return the arguments by which a build goes on where an earlier attempt at it broke off; none if none did."""
    rest = unfinished.rest(settings, build, manifest)
    if rest is None:
        return []
    built = dict.fromkeys(rest.built, 0.0)
    detail = "built before an earlier run like this one broke off"
    emit(Event("skipped", "dbt", f"{plural(len(built), 'model')}", rows=len(built), detail=detail, expected=built))
    return ["--indirect-selection", "empty", "--select", *rest.selected]


def selection(context: dg.AssetExecutionContext, manifest: Mapping[str, Any]) -> list[str]:
    """Return the dbt names of the assets and checks that a run selects."""
    specs = context.assets_def.specs_by_key
    checks = {spec.key: spec for spec in context.assets_def.check_specs}
    ids = [specs[key].metadata["dagster_dbt/unique_id"] for key in context.selected_asset_keys]
    ids += [(checks[key].metadata or {})["dagster_dbt/unique_id"] for key in context.selected_asset_check_keys]
    return sorted(".".join(manifest["nodes"][unique_id]["fqn"]) for unique_id in ids)


def external_sources(manifest: Mapping[str, Any], translator: Translator) -> list[dg.AssetSpec]:
    """Return the dbt sources that no loader fills, such as the ledger in `ops`, for the graph to show them."""
    specs = [translator.get_asset_spec(manifest, unique_id, None) for unique_id in manifest["sources"]]
    return [
        dg.AssetSpec(
            spec.key,
            description=spec.description,
            group_name=spec.group_name,
            owners=spec.owners,
            kinds={"postgres", "table"},
        )
        for spec in specs
        if spec.key not in KEYS
    ]
