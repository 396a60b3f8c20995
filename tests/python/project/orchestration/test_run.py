"""What runs leave behind: rows, partitions, checks, metadata; and what a second one does not do again."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import dagster as dg
import pyarrow.parquet as pq
import pytest

from demo import crm
from granary.cli import output
from granary.dagster.anomaly_check import EXPECTED_CHECK
from granary.dagster.assemble import assemble
from granary.dagster.instance import configuration, environment, inside, open_instance
from granary.dagster.loader_assets import CHECKS
from granary.dagster.rest_of_run import REST_OF
from granary.dbt import last_build
from granary.dbt.manifest import fingerprint
from granary.sources.discovery import SOURCES
from granary.warehouse.connection import connect, execute, query
from orchestration.jobs import jobs as project_jobs
from orchestration.schedules import SCHEDULES

if TYPE_CHECKING:
    from granary.dagster.run import RunOutcome
    from tests.python.project.orchestration.conftest import Place

SALES = dg.AssetKey(["marts", "fct_sales"])
BASKETS = dg.AssetKey(["marts", "fct_baskets"])
TRANSACTIONS = dg.AssetKey(["pos", "transactions"])
PROMOTIONS = dg.AssetKey(["pos", "promotions"])
UNUSUAL = {EXPECTED_CHECK, "nothing_unusual_came"}
"""Checks that warn of so few rows, which are never as usual."""
TABLES = {f"{source.name}.{table.name}" for source in SOURCES.values() for table in source.tables}


def landed_lines(place: Place) -> int:
    """Count the lines in the landing folder's files, without our loaders."""
    folder = place.settings.home / "demo" / "landing" / "pos" / "transactions"
    return sum(pq.read_metadata(path).num_rows for path in folder.glob("*.parquet"))


def test_the_first_run_loads_and_builds_everything_in_one_go(place: Place, first: RunOutcome) -> None:
    assert first.success, first.failures
    assert first.window == (date(2017, 1, 1), date(2017, 2, 2))
    assert first.checks_failed == 0
    lines = landed_lines(place)
    rows = {asset.name: asset.rows for asset in first.assets}
    assert lines > 1000
    assert rows["pos.transactions"] == rows["fct_sales"] == lines
    assert place.rows("select count(*) from marts.fct_sales") == [(lines,)]
    assert rows["stg_pos__transactions"] is None
    kinds = [event.kind for event in place.events]
    assert kinds.index("started") < kinds.index("rows") < kinds.index("finished") < kinds.index("materialized")


def test_a_run_its_build_its_nodes_and_its_publish_are_in_the_run_ledger(place: Place, first: RunOutcome) -> None:
    run = "select kind, status, started_by like 'user %', cpu_seconds > 1, peak_memory_bytes > 1e8 from ops.runs"
    assert place.rows(f"{run} where run_id = $1", first.run_id) == [("job", "succeeded", True, True, True)]
    assert place.rows(f"{run} where parent_run_id = $1", first.run_id) == [("dbt", "succeeded", True, True, True)]
    loads = (
        "select name from ops.steps where run_id = $1 and kind = 'load' and status = 'succeeded' and cpu_seconds >= 0"
    )
    assert {str(name) for (name,) in place.rows(loads, first.run_id)} == TABLES
    mine = "from ops.steps where run_id = (select run_id from ops.runs where parent_run_id = $1)"
    told = dict(
        place.rows(f"select kind, count(*)::int {mine} and status in ('succeeded', 'warned') group by 1", first.run_id)
    )
    assert told["publish"] == 1
    assert told["test"] > 100
    sales = f"select kind, relation, seconds > 0, started_at < finished_at {mine} and name = 'fct_sales'"
    assert place.rows(sales, first.run_id) == [("model", "build.fct_sales", True, True)]
    tested = f"select count(*)::int {mine} and kind = 'test' and relation = 'build.fct_sales'"
    assert place.rows(tested, first.run_id) >= [(3,)]
    twice = (
        "select run_id, stage, name from ops.activities where stage <> 'publish' group by 1, 2, 3 having count(*) > 1"
    )
    assert place.rows(f"select * from ({twice}) as twice where run_id = $1", first.run_id) == []
    assert place.rows("select count(*) > 5 from ops.load_latency where seconds_from_load > 0") == [(True,)]


def test_what_a_run_did_can_be_read_by_a_program(first: RunOutcome, capsys: pytest.CaptureFixture[str]) -> None:
    output.json(first)
    said = json.loads(capsys.readouterr().out)
    assert (said["job"], said["success"], said["window"]) == ("everything", True, ["2017-01-01", "2017-02-02"])
    assert said["checks_by_group"] == first.checks_by_group
    assert sum(said["checks_by_group"].values()) == first.checks_passed
    assert {asset["name"]: asset["rows"] for asset in said["assets"]} == {one.name: one.rows for one in first.assets}


def test_a_run_keeps_its_days_rows_columns_and_lineage_for_the_ui(
    place: Place, first: RunOutcome, instance: dg.DagsterInstance
) -> None:
    days = {f"2017-01-{day:02}" for day in range(1, 32)} | {"2017-02-01", "2017-02-02"}
    assert set(instance.get_materialized_partitions(SALES)) == days
    assert set(instance.get_materialized_partitions(TRANSACTIONS)) == days
    assert instance.get_materialized_partitions(PROMOTIONS) == set()
    run = instance.get_run_by_id(first.run_id)
    assert run is not None
    assert run.tags["granary/window"] == "2017-01-01/2017-02-02"
    event = instance.get_latest_materialization_event(SALES)
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert metadata["dagster/row_count"].value == landed_lines(place)
    columns = {column.name: column.type for column in metadata["dagster/column_schema"].value.columns}
    assert columns["sales_value"] == "numeric(12,2)"
    lineage = metadata["dagster/column_lineage"].value.deps_by_column
    assert ("stg_pos__transactions", "sales_value") in {
        (dep.asset_key.path[-1], dep.column_name) for dep in lineage["sales_value"]
    }
    made = {record.data["column"]: record.data["made from"] for record in metadata["columns are made from"].records}
    assert "stg_pos__transactions.sales_value" in str(made["sales_value"]).split(", ")
    event = instance.get_latest_materialization_event(dg.AssetKey(["snapshots", "snap_crm__households"]))
    assert event is not None
    assert event.asset_materialization is not None
    lineage = event.asset_materialization.metadata["dagster/column_lineage"].value.deps_by_column
    assert {(dep.asset_key.path[-1], dep.column_name) for dep in lineage["dbt_valid_from"]} == {
        ("stg_crm__households", "updated_at")
    }


def test_a_loader_s_page_has_the_ledger_s_numbers(
    place: Place, first: RunOutcome, instance: dg.DagsterInstance
) -> None:
    assert first.success
    event = instance.get_latest_materialization_event(PROMOTIONS)
    assert event is not None
    assert event.asset_materialization is not None
    metadata = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    ledger = place.rows(
        "select sum(rows_read)::bigint, sum(rows_loaded)::bigint, count(*) from ops.load_audit"
        " where source = 'pos' and table_name = 'promotions' and status = 'loaded'"
    )
    assert [(metadata["rows read"], metadata["rows loaded"], metadata["units"])] == ledger
    assert metadata["rows refused"] == 0
    assert metadata["dagster/row_count"] == place.rows("select count(*) from raw_pos.promotions")[0][0]


def test_every_check_of_the_run_was_evaluated(place: Place, first: RunOutcome, instance: dg.DagsterInstance) -> None:
    with inside(environment(place.settings)):
        keys = list(assemble(place.settings, project_jobs, SCHEDULES).resolve_asset_graph().asset_check_keys)
    found = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
    assert set(found) == set(keys)
    assert {record.run_id for record in found.values()} == {first.run_id}
    assert {record.status.value for key, record in found.items() if key.name not in UNUSUAL} == {"SUCCEEDED"}
    warned = {key.name for key, record in found.items() if record.status.value != "SUCCEEDED"}
    assert first.checks_passed == len(keys) - sum(1 for key in keys if key.name in {*CHECKS, *warned})


def test_if_nothing_changed_nothing_is_built(place: Place, first: RunOutcome) -> None:
    assert first.success
    outcome = place.run()
    assert outcome.success, outcome.failures
    assert [event.kind for event in place.events if event.stage == "dbt"] == ["skipped"]
    with inside(environment(place.settings)), open_instance() as instance:
        keys = list(assemble(place.settings, project_jobs, SCHEDULES).resolve_asset_graph().asset_check_keys)
        kept = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
        assert {record.status.value for key, record in kept.items() if key.name not in UNUSUAL} == {"SUCCEEDED"}
        assert {record.status.value for record in kept.values()} <= {"SUCCEEDED", "FAILED"}, "no check is skipped"
        version = "select max(load_id)::text from ops.load_audit where table_name = 'stores' and status = 'loaded'"
        event = instance.get_latest_materialization_event(dg.AssetKey(["crm", "stores"]))
        assert event is not None
        assert event.asset_materialization is not None
        tags = event.asset_materialization.tags or {}
        assert tags["dagster/data_version"] == place.rows(version)[0][0], "what follows from it is in step"
        steps = {entry.step_key for entry in instance.all_logs(outcome.run_id)}
        assert "crm__stores" in steps
        assert not steps & {"dbt", "publishing"}, "what is not done is not planned"
    assert {asset.name for asset in outcome.assets} == {asset.name for asset in first.assets if asset.name in TABLES}


def is_built(place: Place) -> bool:
    now = last_build.state(place.settings, fingerprint(place.settings))
    return last_build.is_of(place.settings, now)


def test_rows_that_no_file_announced_are_built_at_once(place: Place, first: RunOutcome) -> None:
    """A database says what is new only when it is read: by then the run has no step that builds."""
    assert first.success
    with connect(place.settings, crm.database(place.settings)) as shop:
        newer = "update stores set updated_at = updated_at + interval '1 hour' where store_id in"
        execute(shop, f"{newer} (select min(store_id) from stores)")
        shop.commit()
    assert is_built(place)
    outcome = place.run()
    assert outcome.success, outcome.failures
    assert outcome.checks_passed == first.checks_passed
    assert {asset.name for asset in outcome.assets} == {asset.name for asset in first.assets}
    with inside(environment(place.settings)), open_instance() as instance:
        rest, loads = instance.get_runs(limit=2)
    assert loads.run_id == outcome.run_id
    assert [run.status.value for run in (loads, rest)] == ["SUCCESS", "SUCCESS"]
    assert rest.tags[REST_OF] == loads.run_id
    assert is_built(place), "it was a whole build"


@pytest.mark.parametrize(
    "change",
    [
        "update ops.whole_builds set fingerprint = 'another project'",
        """update ops.whole_builds set loads = loads || '{"crm": 0}'""",
        "update ops.whole_builds set publish_id = publish_id - 1",
        "insert into ops.unpublished (schema_name, mart, invocation_id) values ('marts', 'dim_store', '')",
        "insert into ops.publish_holds (schema_name, node, reason, invocation_id) values ('marts', 'x', 'failed', '')",
        "insert into ops.builds values ('x', 'marts', 'test', now(), '[{}]', '[]')",
    ],
)
def test_what_was_not_built_is_a_change(place: Place, first: RunOutcome, change: str) -> None:
    assert first.success
    with connect(place.settings) as connection:
        ((fingerprint,),) = query(connection, "select fingerprint from ops.whole_builds")
        now = last_build.state(place.settings, fingerprint)
        assert last_build.is_of(place.settings, now)
        execute(connection, change)
        connection.commit()
        assert not last_build.is_of(place.settings, now)
        execute(connection, "delete from ops.unpublished")
        execute(connection, "delete from ops.publish_holds")
        execute(connection, "delete from ops.builds where invocation_id = 'x'")
        connection.commit()
    last_build.keep(place.settings, now)


def test_secrets_stay_out_of_dagster_yaml_and_its_home_is_our_own(place: Place, first: RunOutcome) -> None:
    assert first.success
    home = place.settings.home / "dagster"
    assert stat.S_ISREG((home / "dagster.yaml").stat().st_mode)
    secret = "a-password-nobody-may-read"
    text = str(configuration(replace(place.settings, external=True, host="db.example", password=secret)))
    assert secret not in text
    assert "'password': {'env': 'PGPASSWORD'}" in text
    assert "'telemetry': {'enabled': False}" in text
