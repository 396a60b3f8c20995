"""The asset graph: joined at the sources, nothing without an owner, every dbt test a check."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from types import SimpleNamespace
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from granary.dagster import jobs, loader_assets
from granary.dagster.assemble import assemble, last_date
from granary.dagster.instance import environment, inside
from granary.dagster.loader_assets import CHECKS, KEYS, partitions
from granary.dagster.publish_checks import PUBLISH_CHECKS
from granary.dagster.rest_of_run import assets_to_build, still_loaded
from granary.dagster.sensors import ask_for_rest
from granary.dagster.translator import is_daily
from granary.dbt import manifest as dbt_manifest
from granary.scaffold.declared import differences
from granary.sources.discovery import SOURCES
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from orchestration.definitions import defs
from orchestration.jobs import jobs as project_jobs
from orchestration.schedules import SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from granary.warehouse.settings import Settings


@pytest.fixture(scope="module")
def graph(definitions: dg.Definitions) -> dg.AssetGraph:  # type: ignore[name-defined]
    return definitions.resolve_asset_graph()


@pytest.fixture(scope="module")
def manifest(settings: Settings, definitions: dg.Definitions) -> Mapping[str, Any]:
    return dbt_manifest.load(dbt_manifest.prepare(settings))


@pytest.fixture(scope="module")
def specs(definitions: dg.Definitions) -> dict[dg.AssetKey, dg.AssetSpec]:
    return {spec.key: spec for spec in definitions.resolve_all_asset_specs()}


def test_dagster_accepts_the_definitions(definitions: dg.Definitions) -> None:
    dg.Definitions.validate_loadable(definitions)


def test_every_source_table_of_dbt_has_a_loader_and_every_loader_a_source_table(
    manifest: Mapping[str, Any], specs: dict[dg.AssetKey, dg.AssetSpec]
) -> None:
    of_dbt = {(node["source_name"], node["name"]) for node in manifest["sources"].values()}
    loaders = {tuple(key.path) for key in KEYS}
    assert set(KEYS) <= set(specs)
    assert loaders == {(source, table) for source, table in of_dbt if source != "ops"}
    assert len(loaders) >= 9


def test_what_dbt_says_of_the_sources_is_what_their_contracts_say(manifest: Mapping[str, Any]) -> None:
    assert differences(SOURCES.values(), manifest) == []


def test_loaders_are_upstream_of_the_staging_models_and_marts_of_nothing_else(graph: Any) -> None:
    sales = dg.AssetKey(["pos", "transactions"])
    downstream = {key.to_user_string() for key in graph.get(sales).child_keys}
    assert "staging/stg_pos__transactions" in downstream
    reached = {key.path[-1] for key in dg.AssetSelection.assets(sales).downstream().resolve(graph)}
    assert {"fct_sales", "fct_baskets"} <= reached
    assert "dim_store" not in reached or "stg_crm__stores" not in reached


def test_every_data_test_is_an_asset_check(graph: Any, manifest: Mapping[str, Any]) -> None:
    tests = [node for node in manifest["nodes"].values() if node["resource_type"] == "test"]
    names = [test["name"] for test in tests]
    assert len(names) == len(set(names)), "tests with equal names lose their checks"
    checks = {(key.asset_key, key.name) for key in graph.asset_check_keys}
    of_dbt = {name for _, name in checks if name not in CHECKS + PUBLISH_CHECKS}
    assert of_dbt == set(names)
    assert len(checks) == len(names) + len(CHECKS) * len(KEYS) + len(PUBLISH_CHECKS)


def test_a_test_of_several_tables_is_about_the_last_of_them() -> None:
    nodes = {
        "t": {"resource_type": "test", "name": "adds_up", "depends_on": {"nodes": ["raw", "mart", "stage"]}},
        "g": {
            "resource_type": "test",
            "name": "grain",
            "attached_node": "stage",
            "depends_on": {"nodes": ["stage", "mart"]},
            "test_metadata": {"name": "unique", "kwargs": {"column_name": "id", "model": "{{ ... }}"}},
        },
    }
    for name, chosen in (("kept", "stage"), ("mistaken", "elsewhere")):
        nodes[name] = {**nodes["t"], "config": {"meta": {"dagster": {"ref": {"name": chosen}}}}}
    parents = {"mart": ["stage"], "stage": ["raw"], "raw": []}
    enriched = dbt_manifest.with_checks({"nodes": nodes, "parent_map": parents})["nodes"]
    assert enriched["t"]["attached_node"] == "mart"
    assert enriched["g"]["attached_node"] == enriched["kept"]["attached_node"] == "stage"
    assert enriched["mistaken"]["attached_node"] == "mart"
    assert enriched["g"]["meta"]["description"] == "unique column_name: id"
    assert enriched["t"]["meta"]["description"] == "adds_up"


def test_every_asset_says_what_it_is_and_whose(specs: dict[dg.AssetKey, dg.AssetSpec]) -> None:
    for key, spec in specs.items():
        assert spec.owners, key
        assert spec.group_name not in (None, "", "default", "other"), key
        assert spec.kinds, key
        assert spec.description, key
        assert not spec.description.startswith("dbt "), f"{key} has no description of its own"


def test_groups_are_the_systems_and_the_layers(specs: dict[dg.AssetKey, dg.AssetSpec]) -> None:
    groups = {spec.group_name for spec in specs.values()}
    assert set(SOURCES) | {"staging", "intermediate", "marts", "snapshots", "ops"} <= groups
    assert groups <= set(SOURCES) | {"staging", "intermediate", "marts", "snapshots", "ops", "seeds", "metrics"}


def test_only_daily_loads_and_facts_that_overwrite_whole_days_have_partitions(
    specs: dict[dg.AssetKey, dg.AssetSpec], manifest: Mapping[str, Any]
) -> None:
    daily = {key.path[-1]: spec for key, spec in specs.items() if spec.partitions_def is not None}
    loads = {table.name for source in SOURCES.values() for table in source.tables if table.is_daily}
    facts = {node["name"] for node in manifest["nodes"].values() if is_daily(node)}
    assert loads == {"transactions", "coupon_redemptions"}
    assert facts == {
        *("fct_sales", "fct_baskets", "fct_coupon_redemptions"),
        *("daily_sales", "redemption_attribution", "int_redemptions__bought_lines"),
    }
    assert set(daily) == loads | facts
    (days,) = {spec.partitions_def for spec in daily.values()}
    assert isinstance(days, dg.DailyPartitionsDefinition)
    assert days.get_first_partition_key() == "2017-01-01"
    assert days.has_partition_key("2017-12-31")
    window = days.time_window_for_partition_key("2017-03-12")
    assert window.end.timestamp() - window.start.timestamp() == 23 * 3600


def test_the_partitions_end_with_a_history_that_has_ended() -> None:
    days = partitions(date(2017, 12, 31))
    assert len(days.get_partition_keys()) == 365
    assert days.get_last_partition_key() == "2017-12-31"
    assert len(partitions(None).get_partition_keys()) > 365


def test_a_contract_is_shown_as_the_column_schema(specs: dict[dg.AssetKey, dg.AssetSpec]) -> None:
    schema = specs[dg.AssetKey(["crm", "households"])].metadata["dagster/column_schema"]
    columns = {column.name: column for column in schema.columns}  # type: ignore[union-attr]
    assert columns["household_id"].type == "int64"
    assert not columns["household_id"].constraints.nullable
    assert columns["income"].tags == {"personal": "demographic"}


def test_a_mart_links_to_its_documentation_and_to_the_pages_that_show_it(
    specs: dict[dg.AssetKey, dg.AssetSpec],
) -> None:
    def links(*key: str) -> dict[str, str]:
        metadata = specs[dg.AssetKey(key)].metadata
        found = {name: value.url for name, value in metadata.items() if isinstance(value, dg.UrlMetadataValue)}
        lineage = found.pop("column lineage (granary docs)", None)
        assert lineage == f"http://127.0.0.1:8080/lineage.html#{'.'.join(key)}"
        return found

    assert links("marts", "campaign_performance") == {
        "documentation (granary docs)": "http://127.0.0.1:8080/marts.html#campaign_performance",
        "campaigns (granary dashboard)": "http://127.0.0.1:8090/campaigns.html",
    }
    assert links("marts", "fct_sales") == {"documentation (granary docs)": "http://127.0.0.1:8080/marts.html#fct_sales"}
    assert links("ops", "restatements") == {"data health (granary dashboard)": "http://127.0.0.1:8090/health.html"}
    assert links("staging", "stg_pos__transactions") == {}
    of_marts = [key for key in specs if key.path[0] == "marts"]
    assert [key for key in of_marts if "documentation (granary docs)" not in links(*key.path)] == []


def test_links_lead_where_the_environment_says(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRANARY_DOCS_URL", "https://docs.example.com/")
    monkeypatch.setenv("GRANARY_DASHBOARD_URL", "")
    found = {spec.key: spec.metadata for spec in assemble(settings, project_jobs, SCHEDULES).resolve_all_asset_specs()}
    metadata = found[dg.AssetKey(["marts", "daily_sales"])]
    links = {name: value.url for name, value in metadata.items() if isinstance(value, dg.UrlMetadataValue)}
    assert links == {
        "documentation (granary docs)": "https://docs.example.com/marts.html#daily_sales",
        "column lineage (granary docs)": "https://docs.example.com/lineage.html#marts.daily_sales",
    }


def nodes(definitions: dg.Definitions, job: str) -> set[str]:
    layer = definitions.resolve_job_def(job).asset_layer
    return {key.path[-1] for key in layer.selected_asset_keys}


def test_the_jobs_select_what_their_names_say(definitions: dg.Definitions) -> None:
    everything = nodes(definitions, "everything")
    assert nodes(definitions, "full_refresh") == everything
    assert len(everything) > 30
    daily = nodes(definitions, "daily")
    assert {"transactions", "coupon_redemptions", "households", "campaigns", "fct_sales", "dim_date"} <= daily
    assert not {"promotions", "stg_pos__promotions"} & daily
    weekly = nodes(definitions, "weekly_promotions")
    assert {"promotions", "stg_pos__promotions", "fct_promotions"} <= weekly
    assert not {"transactions", "fct_sales", "households"} & weekly
    assert "restatements" in weekly
    crm = nodes(definitions, "crm_snapshots")
    assert {"households", "products", "stores", "snap_crm__households", "snap_crm__products"} <= crm
    assert not {"snap_marketing__campaigns", "dim_household", "campaigns"} & crm


@pytest.mark.parametrize("gone", ["pos", "crm"])
def test_a_source_that_cannot_be_used_costs_no_other(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    error = GranaryError(f"source {gone} cannot be used: it is not Python", f"{gone}.py, line 1", "correct it")
    monkeypatch.setattr(loader_assets, "BROKEN", {gone: error})
    monkeypatch.setattr(loader_assets, "SOURCES", {name: source for name, source in SOURCES.items() if name != gone})
    for module in (loader_assets, jobs):
        monkeypatch.setattr(module, "KEYS", [key for key in KEYS if key.path[0] != gone])
    found = assemble(settings, project_jobs, SCHEDULES)
    graph = found.resolve_asset_graph()
    assert dg.AssetKey([gone, "module"]) in graph.executable_asset_keys
    assert not {key for key in KEYS if key.path[0] == gone} & graph.executable_asset_keys
    selected = found.resolve_job_def("everything").asset_layer.selected_asset_keys
    assert {dg.AssetKey([gone, "module"]), dg.AssetKey(["events", "coupon_redemptions"])} <= selected
    assert {job.name for job in found.resolve_all_job_defs()} >= {"daily", "weekly_promotions", "crm_snapshots"}


def test_the_rest_of_a_run_is_what_follows_from_no_table_that_failed(graph: Any, definitions: dg.Definitions) -> None:
    selected = definitions.resolve_job_def("everything").asset_layer.selected_asset_keys
    left = {key.path[-1] for key in assets_to_build(graph, selected, [dg.AssetKey(["pos", "transactions"])])}
    assert {"snap_crm__households", "snap_marketing__campaigns", "stg_pos__promotions", "dim_campaign"} <= left
    assert not left & {"stg_pos__transactions", "fct_sales", "households", "promotions"}
    left = {key.path[-1] for key in assets_to_build(graph, selected, [dg.AssetKey(["marketing", "coupons"])])}
    assert {"stg_pos__transactions", "dim_store", "snap_crm__products"} <= left
    assert not left & {"dim_coupon", "stg_marketing__coupons"}


def test_what_follows_from_others_too_is_built_on_a_failed_table_as_it_stands(
    graph: Any, definitions: dg.Definitions
) -> None:
    selected = definitions.resolve_job_def("everything").asset_layer.selected_asset_keys
    coupons, campaigns = dg.AssetKey(["marketing", "coupons"]), dg.AssetKey(["marketing", "campaigns"])

    def names(*still_loaded: dg.AssetKey) -> set[str]:
        return {key.path[-1] for key in assets_to_build(graph, selected, [coupons, campaigns], still_loaded)}

    assert {"fct_sales", "fct_promotions", "dim_product", "fct_coupon_redemptions"} <= names(coupons, campaigns)
    assert not names(coupons, campaigns) & {"stg_marketing__coupons", "snap_marketing__campaigns", "dim_campaign"}
    assert not names(campaigns) & {"fct_sales", "fct_promotions", "dim_product", "dim_coupon"}
    assert "dim_store" in names()


@pytest.mark.parametrize(
    ("sql", "stands"),
    [
        ("select", True),
        ("delete from raw_marketing.coupons where coupon_upc = 2", False),
        ("drop table raw_marketing.coupons cascade", False),
        ("delete from ops.raw_tables where table_name = 'coupons'", False),
    ],
)
def test_a_failed_table_stands_while_it_holds_what_its_loads_brought(
    warehouse: Settings, sql: str, stands: bool
) -> None:
    coupons, campaigns = dg.AssetKey(["marketing", "coupons"]), dg.AssetKey(["marketing", "campaigns"])
    with connect(warehouse, role="loader") as loader:
        execute(loader, "create schema raw_marketing")
        execute(loader, "create table raw_marketing.coupons as select generate_series(1, 3) as coupon_upc")
        execute(loader, "insert into ops.raw_tables values ('marketing', 'coupons', 3, null)")
        execute(loader, sql)
        loader.commit()
    assert still_loaded(warehouse, [coupons, campaigns]) == ([coupons] if stands else [])


def test_the_daemon_asks_for_the_rest_of_a_run_once(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    failed = SimpleNamespace(
        dagster_event=SimpleNamespace(is_step_failure=True, step_key="pos__transactions"), error_info=None
    )

    def asked(**tags: str) -> Any:
        run = SimpleNamespace(run_id="r", job_name="daily", tags=tags, asset_selection=None, run_config={})
        instance = SimpleNamespace(all_logs=lambda _: [failed])
        context = SimpleNamespace(dagster_run=run, instance=instance, repository_def=repository)
        return ask_for_rest(context)  # type: ignore[arg-type]

    request = asked(**{"dagster/partition": "2017-03-12", "granary/window": "2017-03-11/2017-03-12"})
    assert dg.AssetKey(["snapshots", "snap_crm__households"]) in request.asset_selection
    assert dg.AssetKey(["marts", "fct_sales"]) not in request.asset_selection
    assert request.tags["granary/rest_of"] == "r"
    assert isinstance(asked(**{"granary/rest_of": "q"}), dg.SkipReason)
    assert isinstance(asked(**{"granary/in_process": "true"}), dg.SkipReason)


def test_schedules_are_in_the_stores_time_zone_and_stopped_until_asked_for(definitions: dg.Definitions) -> None:
    schedules = {schedule.name: schedule for schedule in definitions.schedules or []}  # type: ignore[union-attr]
    assert set(schedules) == {"daily", "weekly_promotions"}
    for schedule in schedules.values():
        assert schedule.execution_timezone == "America/New_York"  # type: ignore[union-attr]
        assert schedule.default_status == dg.DefaultScheduleStatus.STOPPED  # type: ignore[union-attr]


def test_loading_the_definitions_connects_to_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    dbt_manifest.prepare(settings)
    monkeypatch.setattr("granary.warehouse.connection.Connection.connect", refuse)
    monkeypatch.setattr("psycopg2.connect", refuse)
    dg.Definitions.validate_loadable(assemble(settings, project_jobs, SCHEDULES))


def test_the_last_date_comes_from_the_environment(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = replace(settings, home=tmp_path)
    assert last_date(elsewhere) is None
    monkeypatch.setenv("GRANARY_LAST_DATE", "2017-12-31")
    assert last_date(elsewhere) == date(2017, 12, 31)


def test_dagster_finds_the_definitions_by_module_name(settings: Settings) -> None:
    with inside(environment(settings)):
        assert isinstance(defs(), dg.Definitions)
