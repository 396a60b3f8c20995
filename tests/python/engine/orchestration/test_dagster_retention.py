"""Of Dagster's records goes what nothing asks for any more: which days were loaded, and the last of all else, stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from granary.dagster.instance import environment, inside, open_instance, prepare_instance
from granary.dagster.retention import prune
from granary.warehouse.connection import connect, execute, query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.settings import Settings

DAYS = dg.StaticPartitionsDefinition(["2017-03-12", "2017-03-13"])


@dg.asset(partitions_def=DAYS)
def receipts() -> None: ...


@dg.asset
def stores() -> None: ...


@pytest.fixture
def instance(warehouse: Settings) -> Iterator[dg.DagsterInstance]:
    prepare_instance(warehouse)
    with inside(environment(warehouse)), open_instance() as opened:
        yield opened


def age(settings: Settings, days: int) -> None:
    """Have all that is kept be older by so many days."""
    with connect(settings, settings.dagster_database) as connection:
        for table, column in (("event_logs", "timestamp"), ("runs", "create_timestamp")):
            execute(connection, f"update {table} set {column} = {column} - make_interval(days => {days})")
        connection.commit()


def kept(settings: Settings, sql: str) -> list[tuple[object, ...]]:
    with connect(settings, settings.dagster_database) as connection:
        return query(connection, sql)


def test_old_runs_go_and_what_they_brought_up_to_date_stays(warehouse: Settings, instance: dg.DagsterInstance) -> None:
    def run(asset: dg.AssetsDefinition, day: str | None = None) -> str:
        return dg.materialize([asset], instance=instance, partition_key=day).run_id

    replaced, stays = run(stores), run(stores)
    first, second = run(receipts, "2017-03-12"), run(receipts, "2017-03-13")
    age(warehouse, 100)
    young = run(stores)
    newest = instance.get_latest_materialization_event(stores.key)
    before = kept(warehouse, "select count(*) from event_logs")
    gone = prune(warehouse, 90)
    assert gone["event_logs"] > 0
    assert kept(warehouse, "select count(*) from event_logs") == [(int(str(before[0][0])) - gone["event_logs"],)]
    assert gone["runs"] == 2
    assert {run.run_id for run in instance.get_runs()} == {first, second, young}
    assert {replaced, stays}.isdisjoint({run.run_id for run in instance.get_runs()})
    assert instance.get_materialized_partitions(receipts.key) == {"2017-03-12", "2017-03-13"}
    assert instance.get_latest_materialization_event(stores.key) == newest
    assert len(instance.all_logs(young)) > 5
    assert prune(warehouse, 90) == {"event_logs": 0, "asset_check_executions": 0, "runs": 0}
