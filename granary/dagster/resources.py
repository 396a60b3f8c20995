"""What the steps need from outside: the warehouse that the environment names."""

from collections.abc import Iterator

import dagster as dg

from granary.dagster import run_records
from granary.dagster.run_locks import hold
from granary.dagster.windows import WINDOW_TAG, days, window_of_tags
from granary.warehouse.settings import Settings


class Warehouse(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The Postgres that everything lands in, found as every command finds it: PG* variables, else the embedded server.

    It has no fields on purpose: a password in a resource would show in the launchpad and be stored with every run.
    """

    @property
    def settings(self) -> Settings:
        """Where the warehouse is now."""
        return Settings.load()

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Say that this process works on the run that it begins."""
        if context.run is not None:
            hold(self.settings, context.run.run_id)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Say what the run took of this process; how it ended is known later (`granary.dagster.run_records`)."""
        if context.run is not None:
            run_records.keep_usage(self.settings, context.run)


class RunOptions(dg.Config):
    """What a person may choose for a run of the jobs."""

    full_refresh: bool = False
    """Load everything again and rebuild every table; snapshots keep their history."""


def earlier_days(context: dg.AssetExecutionContext, key: dg.AssetKey) -> Iterator[dg.AssetMaterialization]:
    """Yield a materialisation for each day but the last of a run over several days, if the asset has daily partitions.

    The last day is the run's partition, which Dagster marks by itself (see `WINDOW_TAG`).
    """
    window = window_of_tags(context.run.tags)
    if window and WINDOW_TAG in context.run.tags and context.assets_def.specs_by_key[key].partitions_def:
        yield from (dg.AssetMaterialization(key, partition=day.isoformat()) for day in days(window)[:-1])
