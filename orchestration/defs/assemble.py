"""All definitions of one warehouse, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from orchestration.defs.dbt import dbt_definition, external_sources
from orchestration.defs.jobs import jobs
from orchestration.defs.loaders import LOADERS
from orchestration.defs.resources import Warehouse
from orchestration.defs.schedules import SCHEDULES

if TYPE_CHECKING:
    from warehouse.settings import Settings


def assemble(settings: Settings) -> dg.Definitions:
    """Return the definitions for a warehouse; reads or makes dbt's manifest and connects to nothing.

    Raises:
        GranaryError: dbt cannot parse the project.
    """
    dbt, translator = dbt_definition(settings)
    external = external_sources(settings, translator)
    return dg.Definitions(
        assets=[*LOADERS, dbt, *external],
        jobs=jobs(dbt, external),
        schedules=SCHEDULES,
        resources={"warehouse": Warehouse()},
        # One process a run: starting one per step costs more than loading in parallel gains on two cores.
        executor=dg.in_process_executor,
    )
