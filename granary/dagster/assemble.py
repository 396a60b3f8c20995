"""All definitions of one warehouse, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from granary.dagster.archive_job import archive_jobs
from granary.dagster.arrivals import landed, landing_zone, polling
from granary.dagster.dbt_assets import dbt_definition, external_sources
from granary.dagster.deliveries import deliveries
from granary.dagster.incident_events import incidents_of_assets
from granary.dagster.jobs import Assets, Job, standard_jobs
from granary.dagster.loader_assets import loaders, partitions
from granary.dagster.publish_checks import publish_checks
from granary.dagster.resources import Warehouse
from granary.dagster.sensors import SENSORS, rest_of_runs
from granary.dbt import manifest as dbt_manifest
from granary.load.newest import last_date
from granary.warehouse.project import project_module

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from granary.warehouse.settings import Settings


def assemble(
    settings: Settings,
    jobs: Callable[[Assets], Sequence[Job]] = lambda _: (),
    schedules: Sequence[dg.ScheduleDefinition] = (),
) -> dg.Definitions:
    """Return the definitions for a warehouse; reads or makes dbt's manifest and connects to nothing.

    Args:
        settings: The warehouse.
        jobs: Returns the project's own jobs.
        schedules: The project's schedules.

    Raises:
        GranaryError: dbt cannot parse the project.
    """
    days = partitions(last_date(settings))
    manifest = dbt_manifest.load(dbt_manifest.prepare(settings))
    dbt, translator = dbt_definition(manifest, days)
    external = external_sources(manifest, translator)
    assets = Assets(dbt, external)
    named = [*standard_jobs(assets), *jobs(assets)]
    return dg.Definitions(
        assets=[*loaders(days), dbt, *external, *deliveries()],
        asset_checks=[publish_checks(manifest)],
        jobs=[*named, *archive_jobs()],
        schedules=schedules,
        sensors=[*SENSORS, incidents_of_assets, rest_of_runs(named), landing_zone, landed, *polling()],
        resources={"warehouse": Warehouse()},
        # One process a run. Nine loads of nothing new take 15 s in it and 33 s with a process per step (forkserver,
        # preloaded, 2 cores); loading in parallel gains less than that, since the largest table keeps both cores busy.
        executor=dg.in_process_executor,
    )


def of_project(settings: Settings) -> dg.Definitions:
    """Return what the project's orchestration/definitions.py defines; without one, the engine's own definitions."""
    module = project_module("orchestration.definitions")
    if module is None:
        return assemble(settings)
    found = module.defs()
    if not isinstance(found, dg.Definitions):
        raise TypeError("defs() in orchestration/definitions.py returns no dagster.Definitions")
    return found
