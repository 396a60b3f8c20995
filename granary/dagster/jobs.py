"""Jobs: named selections of the one asset graph, each run in one process.

Every project has `everything` and `full_refresh`; others are made in its orchestration/jobs.py from an `Assets`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from granary.dagster.dbt_assets import DbtOptions
from granary.dagster.deliveries import key_of
from granary.dagster.instance import EVERYTHING, FULL_REFRESH
from granary.dagster.loader_assets import KEYS
from granary.dagster.publish_checks import ASSET as PUBLISHED
from granary.dagster.resources import RunOptions
from granary.deliver.discovery import declared

if TYPE_CHECKING:
    from collections.abc import Sequence

Job = Any
"""What `define_asset_job` returns: Dagster does not export its class."""


@dataclass(frozen=True)
class Assets:
    """The assets of a project, as selections to make jobs from."""

    dbt: dg.AssetsDefinition
    external: Sequence[dg.AssetSpec]

    @property
    def everything(self) -> dg.AssetSelection:
        """Every loader, every dbt asset, every delivery, and the checks of tables without a loader (the ledger)."""
        return dg.AssetSelection.all() | dg.AssetSelection.checks_for_assets(*(spec.key for spec in self.external))

    @property
    def loaders(self) -> dg.AssetSelection:
        """Every source table that has a loader."""
        return dg.AssetSelection.assets(*KEYS)

    @property
    def snapshots(self) -> dg.AssetSelection:
        """Every dbt snapshot."""
        ids = ((spec.key, spec.metadata["dagster_dbt/unique_id"]) for spec in self.dbt.specs)
        return dg.AssetSelection.assets(*(key for key, unique_id in ids if unique_id.startswith("snapshot.")))

    @property
    def published(self) -> dg.AssetSelection:
        """The asset that carries the checks of what was published."""
        return dg.AssetSelection.assets(PUBLISHED)

    def deliveries(self, *names: str) -> dg.AssetSelection:
        """Return deliveries, or all of them if none is named."""
        found, broken = declared()
        return dg.AssetSelection.assets(*(key_of(name) for name in [*found, *broken] if not names or name in names))

    def tables(self, source: str, *names: str) -> dg.AssetSelection:
        """Return tables of a source that have a loader, or all of them if none is named."""
        found = (key for key in KEYS if key.path[0] == source and (not names or key.path[1] in names))
        return dg.AssetSelection.assets(*found)

    def only_from(self, tables: dg.AssetSelection) -> dg.AssetSelection:
        """Return these tables, and what follows from them and from no other table."""
        return (tables | tables.downstream()) - (self.loaders - tables).downstream()


def job(name: str, selection: dg.AssetSelection, description: str, config: dict[str, Any] | None = None) -> Job:
    """Return a job with a selection of assets and all their checks."""
    return dg.define_asset_job(name, selection, config, description=description)


def standard_jobs(assets: Assets) -> list[Job]:
    """Return the jobs that every project has."""
    return [
        job(EVERYTHING, assets.everything, "Load what is new in every system; snapshot, build and test what follows."),
        job(
            FULL_REFRESH,
            assets.everything,
            "Load everything again and rebuild every table; snapshots keep their history.",
            full_refresh_options(),
        ),
    ]


def full_refresh_options() -> dict[str, Any]:
    """Return the run configuration of a full refresh of every loader and of dbt."""
    options = {key.to_python_identifier(): RunOptions(full_refresh=True) for key in KEYS}
    options["dbt"] = DbtOptions(full_refresh=True)
    return {"ops": {name: {"config": option.model_dump()} for name, option in options.items()}}


def run_config(job: str, *, rebuild: bool) -> dict[str, Any]:
    """Return the configuration of a run: what dbt and the loaders do, and no copy of the events on standard error."""
    quiet_console = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    if job == FULL_REFRESH:
        return {**full_refresh_options(), **quiet_console}
    return {"ops": {"dbt": {"config": DbtOptions(overwrite_window=rebuild).model_dump()}}, **quiet_console}
