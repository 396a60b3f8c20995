"""The jobs: named selections of the one asset graph, each run in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dbt import build_dbt_asset_selection

from orchestration.defs.dbt import DbtOptions
from orchestration.defs.loaders import KEYS, key_of
from orchestration.defs.publishing import ASSET as RESTATEMENTS
from orchestration.defs.resources import RunOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

Job = Any
"""What `define_asset_job` returns: Dagster does not export its class."""
PROMOTIONS = key_of("pos", "promotions")


def jobs(dbt: dg.AssetsDefinition, external: Sequence[dg.AssetSpec]) -> list[Job]:
    """Return the jobs over the loaders, these dbt assets, and the checks of tables without a loader (the ledger)."""
    ledger = dg.AssetSelection.checks_for_assets(*(spec.key for spec in external))
    everything = dg.AssetSelection.all() | ledger
    promotions = dg.AssetSelection.assets(*(key for key in KEYS if key == PROMOTIONS))
    other_loaders = dg.AssetSelection.assets(*KEYS) - promotions
    only_promotions = (promotions | promotions.downstream()) - other_loaders.downstream()
    crm = dg.AssetSelection.assets(*(key for key in KEYS if key.path[0] == "crm"))
    crm_snapshots = build_dbt_asset_selection([dbt], "resource_type:snapshot") & crm.downstream()
    return [
        job("everything", everything, "Load what is new in every system; snapshot, build and test what follows."),
        job(
            "full_refresh",
            everything,
            "Load everything again and rebuild every table; snapshots keep their history.",
            full_refresh_options(),
        ),
        job(
            "daily",
            (dg.AssetSelection.all() - only_promotions) | ledger,
            "One business day: its sales and redemptions, news of the CRM and of marketing, and all that follows.",
        ),
        job(
            "weekly_promotions",
            promotions | promotions.downstream() | dg.AssetSelection.assets(RESTATEMENTS),
            "The week's promotions, and all that follows.",
        ),
        job("crm_snapshots", crm | crm_snapshots.upstream(), "What the CRM says now, kept as history."),
    ]


def job(name: str, selection: dg.AssetSelection, description: str, config: dict[str, Any] | None = None) -> Job:
    """Return a job with a selection of assets and all their checks."""
    return dg.define_asset_job(name, selection, config, description=description)


def full_refresh_options() -> dict[str, Any]:
    """Return the run configuration of a full refresh of every loader and of dbt."""
    options = {key.to_python_identifier(): RunOptions(full_refresh=True) for key in KEYS}
    options["dbt"] = DbtOptions(full_refresh=True)
    return {"ops": {name: {"config": option.model_dump()} for name, option in options.items()}}
