"""All definitions of one warehouse, put together."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import dagster as dg

from ingestion.config import setting
from orchestration import manifest as dbt_manifest
from orchestration.defs.dbt import dbt_definition, external_sources
from orchestration.defs.jobs import jobs
from orchestration.defs.loaders import loaders, partitions
from orchestration.defs.publishing import publish_checks
from orchestration.defs.resources import Warehouse
from orchestration.defs.schedules import SCHEDULES
from orchestration.defs.sensors import SENSORS, rest_of_runs
from warehouse.errors import GranaryError

if TYPE_CHECKING:
    from warehouse.settings import Settings


LAST_DATE = "GRANARY_LAST_DATE"


def assemble(settings: Settings) -> dg.Definitions:
    """Return the definitions for a warehouse; reads or makes dbt's manifest and connects to nothing.

    Raises:
        GranaryError: dbt cannot parse the project.
    """
    days = partitions(last_date(settings))
    dbt, translator = dbt_definition(settings, days)
    external = external_sources(settings, translator)
    named = jobs(dbt, external)
    return dg.Definitions(
        assets=[*loaders(days), dbt, *external],
        asset_checks=[publish_checks(dbt_manifest.load(dbt_manifest.prepare(settings)))],
        jobs=named,
        schedules=SCHEDULES,
        sensors=[*SENSORS, rest_of_runs(named)],
        resources={"warehouse": Warehouse()},
        # One process a run. Nine loads without news take 15 s in it and 33 s with a process per step (forkserver,
        # preloaded, 2 cores); loading in parallel gains less than that, since the largest table keeps both cores busy.
        executor=dg.in_process_executor,
    )


def last_date(settings: Settings) -> date | None:
    """Return the last business date that there will ever be, GRANARY_LAST_DATE, which only a finished history has.

    Without it, the days from the end of the sample retailer's year until today would look as if they were missing.
    """
    try:
        return date.fromisoformat(setting(settings, LAST_DATE))
    except GranaryError:
        return None
