"""The runs that a command makes of one job: all of it, its loads alone, and what these leave to be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dagster as dg

from granary.dagster.instance import CODE_LOCATION, IN_PROCESS
from granary.dagster.rest_of_run import REST_OF, assets_to_build, failed_loaders, is_daily, still_loaded
from granary.dagster.run_locks import held
from granary.dagster.run_records import STARTED_BY, keep_runs
from granary.dagster.windows import Window, window_tag
from granary.warehouse.person import starter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.warehouse.settings import Settings

UNIQUE_ID = "dagster_dbt/unique_id"
"""What dagster-dbt notes of assets and checks that dbt makes."""


@dataclass(frozen=True)
class Execution:
    """A job of these definitions with the window and the configuration that its runs have."""

    settings: Settings
    instance: dg.DagsterInstance
    definitions: dg.Definitions
    job: dg.JobDefinition
    window: Window | None
    config: dict[str, Any]

    def run(self) -> dg.ExecuteInProcessResult:
        """Run all of the job."""
        return self._execute(self.job, self.config["ops"])

    def load(self) -> dg.ExecuteInProcessResult:
        """Run what follows from nothing that dbt builds, the loads, with the checks that they make."""
        return self._execute(self._half(loads=True), {})

    def build(self, loads: dg.ExecuteInProcessResult) -> dg.ExecuteInProcessResult:
        """Run what dbt builds and what follows, with all checks but those of the loads, after a run of these."""
        return self._execute(self._half(loads=False), self._of_dbt, rest_of=loads.run_id)

    def rest(self, first: dg.ExecuteInProcessResult) -> dg.ExecuteInProcessResult | None:
        """Run what does not follow from the loads that failed in a run alone; None if there is no such thing."""
        failed = failed_loaders(first.all_events)
        graph, selected = self.definitions.resolve_asset_graph(), self.job.asset_layer.selected_asset_keys
        keys = assets_to_build(graph, selected, failed, still_loaded(self.settings, failed))
        return self._execute(self.job, self._of_dbt, keys, rest_of=first.run_id) if keys else None

    @property
    def _of_dbt(self) -> dict[str, Any]:
        return {"dbt": self.config["ops"]["dbt"]}

    def _half(self, *, loads: bool) -> dg.JobDefinition:
        graph, selected = self.definitions.resolve_asset_graph(), self.job.asset_layer.selected_asset_keys
        checks = self.job.asset_layer.asset_graph.asset_check_keys
        of_dbt = dg.AssetSelection.assets(*(key for key in selected if UNIQUE_ID in graph.get(key).metadata))
        built = selected & set(of_dbt.downstream().resolve(graph))
        made_by_loads = {
            key
            for key in checks
            if key.asset_key in selected - built and UNIQUE_ID not in (graph.get_check_spec(key).metadata or {})
        }
        if loads:
            return self.job.get_subset(asset_selection=selected - built, asset_check_selection=made_by_loads)
        return self.job.get_subset(asset_selection=built, asset_check_selection=checks - made_by_loads)

    def _execute(
        self,
        job: dg.JobDefinition,
        ops: dict[str, Any],
        keys: Sequence[dg.AssetKey] | None = None,
        rest_of: str | None = None,
    ) -> dg.ExecuteInProcessResult:
        run_id = str(uuid4())
        day = self.window
        if keys is not None and not is_daily(self.definitions.resolve_asset_graph(), keys):
            day = None
        # Whoever gave the command sees how it ends: nothing else ends it, or begins it again.
        tags = {
            **CODE_LOCATION,
            IN_PROCESS: "true",
            STARTED_BY: starter(),
            "dagster/max_runtime": "0",
            "dagster/max_retries": "0",
        }
        tags |= window_tag(day) if day else {}
        with held(self.settings, run_id):
            result = job.execute_in_process(
                instance=self.instance,
                run_id=run_id,
                raise_on_error=False,
                partition_key=day[1].isoformat() if day else None,
                tags=tags | ({REST_OF: rest_of} if rest_of else {}),
                run_config={**self.config, "ops": ops},
                asset_selection=keys,
            )
        keep_runs(self.settings, self.instance)
        return result
