"""OpenLineage events: sent where the standard configuration says, shaped as the specification has it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from granary.dbt import openlineage as of_dbt
from granary.load.api import load_table
from granary.warehouse import openlineage
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from granary.warehouse.openlineage import FACETS, SCHEMA_URL, Dataset, Work
from granary.warehouse.run_ledger import Run
from granary.warehouse.steps import Step
from tests.python.support import prometheus
from tests.python.support.shop import Shop, table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from granary.warehouse.settings import Settings

    Read = Callable[[], list[dict[str, Any]]]

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
SHAPES: dict[str, dict[str, Any]] = {
    "schema": {"fields": [{"name": str, "type": str}]},
    "columnLineage": {"fields": {"*": {"inputFields": [{"namespace": str, "name": str, "field": str}]}}},
    "outputStatistics": {},
    "dataQualityAssertions": {"assertions": [{"assertion": str, "success": bool}]},
    "parent": {"run": {"runId": str}, "job": {"namespace": str, "name": str}},
    "errorMessage": {"message": str, "programmingLanguage": str},
    "jobType": {"processingType": str, "integration": str, "jobType": str},
}
"""What the published JSON schema of each facet requires."""
DATASET = {"namespace": str, "name": str, "facets": {}}
EVENT = {
    "eventType": str,
    "eventTime": str,
    "producer": str,
    "schemaURL": str,
    "run": {"runId": str, "facets": {}},
    "job": {"namespace": str, "name": str, "facets": {}},
    "inputs": [DATASET],
    "outputs": [DATASET],
}


def check(found: Any, shape: Any, where: str = "event") -> None:
    """Compare a value with a shape: types, required keys, `*` for any key, and one shape for all items of a list."""
    if isinstance(shape, type):
        assert isinstance(found, shape), where
    elif isinstance(shape, list):
        for place, item in enumerate(found):
            check(item, shape[0], f"{where}[{place}]")
    elif "*" in shape:
        for name, value in found.items():
            check(value, shape["*"], f"{where}.{name}")
    else:
        assert shape.keys() <= found.keys(), where
        for name, inner in shape.items():
            check(found[name], inner, f"{where}.{name}")


def check_event(event: Mapping[str, Any]) -> None:
    """Compare an event with the specification."""
    check(event, EVENT)
    assert (
        event["schemaURL"] == SCHEMA_URL == "https://openlineage.io/spec/2-0-2/OpenLineage.json#/definitions/RunEvent"
    )
    assert event["eventType"] in ("START", "COMPLETE", "FAIL")
    assert datetime.fromisoformat(event["eventTime"]).tzinfo
    UUID(event["run"]["runId"])
    holders = [event["run"]["facets"], event["job"]["facets"]]
    for one in (*event["inputs"], *event["outputs"]):
        holders += [one["facets"], one.get("outputFacets", {})]
    for facets in holders:
        for name, facet in facets.items():
            check(facet, {"_producer": str, "_schemaURL": str, **SHAPES[name]}, name)
            version, definition = FACETS[name].split("/")
            assert facet["_schemaURL"].endswith(f"/facets/{version}/{definition}.json#/$defs/{definition}")


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Have events go to a file; return what reads it."""
    path = tmp_path / "events.jsonl"
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", str(path))

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    return read


def test_a_load_tells_what_it_read_and_wrote_column_by_column(
    warehouse: Settings, monkeypatch: pytest.MonkeyPatch, written: Read
) -> None:
    shop = Shop()
    monkeypatch.setattr("granary.load.api.SOURCES", {"shop": shop.source(table())})
    shop.put("monday", {"id": [1, 2]})
    load_table(warehouse, "shop", "orders", run_id="a run")
    shop.put("tuesday", {"id": [3]}, error=GranaryError("it is damaged", "tuesday"))
    with pytest.raises(GranaryError):
        load_table(warehouse, "shop", "orders", run_id="another")
    began, ended, _, failed = written()
    for event in (began, ended, failed):
        check_event(event)
    assert [one["eventType"] for one in (began, ended, failed)] == ["START", "COMPLETE", "FAIL"]
    assert began["run"]["runId"] == ended["run"]["runId"] != failed["run"]["runId"]
    assert ended["run"]["facets"]["parent"]["run"]["runId"] == openlineage.run_uuid("a run")
    (read,), (made,) = ended["inputs"], ended["outputs"]
    assert (read["namespace"], read["name"]) == ("files://shop", "orders")
    assert made["name"].endswith(".raw_shop.orders")
    assert made["facets"]["schema"]["fields"] == [{"name": "id", "type": "bigint"}]
    assert made["facets"]["columnLineage"]["fields"]["id"]["inputFields"] == [
        {"namespace": "files://shop", "name": "orders", "field": "id"}
    ]
    assert made["outputFacets"]["outputStatistics"]["rowCount"] == 2
    assert failed["run"]["facets"]["errorMessage"]["message"] == "it is damaged (tuesday)"


MANIFEST = {
    "nodes": {
        "model.shop.fct": {
            "unique_id": "model.shop.fct",
            "resource_type": "model",
            "name": "fct",
            "schema": "build",
            "package_name": "shop",
            "original_file_path": "models/fct.sql",
            "config": {"materialized": "table"},
            "columns": {},
            "depends_on": {"nodes": ["source.shop.shop.orders"]},
        }
    },
    "sources": {
        "source.shop.shop.orders": {
            "unique_id": "source.shop.shop.orders",
            "resource_type": "source",
            "name": "orders",
            "identifier": "orders",
            "schema": "raw_shop",
            "columns": {},
        }
    },
}


def test_dbt_tells_of_its_tables_with_their_checks_and_of_its_publish(
    warehouse: Settings, written: Read, tmp_path: Path
) -> None:
    with connect(warehouse) as connection:
        for statement in (
            "create schema raw_shop",
            "create table raw_shop.orders (id bigint, price numeric(9, 2))",
            "create schema build",
            "create table build.fct (order_id bigint, doubled numeric)",
            "create schema marts",
            "create table marts.fct (order_id bigint, doubled numeric)",
            "insert into ops.publishes (schema_name, invocation_id, started_at, finished_at, marts, rows_inserted,"
            " rows_deleted, loads_seen) values ('marts', 'i', now(), now(), '{fct}', 7, 0, '{}')",
            "grant usage on schema raw_shop, build, marts to transformer",
            "grant select on all tables in schema raw_shop, build, marts to transformer",
        ):
            execute(connection, statement)
        connection.commit()
    compiled = tmp_path / "compiled" / "shop" / "models" / "fct.sql"
    compiled.parent.mkdir(parents=True)
    compiled.write_text('select id as order_id, price * 2 as doubled from "w"."raw_shop"."orders"')
    steps = [
        Step("i", "model", "fct", "build.fct", False, 2, 7, started_at=NOON, finished_at=NOON + timedelta(seconds=2)),
        Step("i", "test", "fct_grain", "build.fct", False, 0.1, 0),
        Step("i", "test", "fct_positive", "build.fct", False, 0.1, 3, status="failed"),
    ]
    run = Run("i", "dbt", "build", NOON, "failed", NOON)
    of_dbt.emit(warehouse, run, steps, MANIFEST, tmp_path)
    _, built, _, published = written()
    for event in (built, published):
        check_event(event)
    (made,) = built["outputs"]
    assert built["eventTime"] == "2026-03-01T12:00:02+00:00"
    assert made["outputFacets"]["outputStatistics"]["rowCount"] == 7
    lineage = made["facets"]["columnLineage"]["fields"]
    assert {name: [one["field"] for one in of["inputFields"]] for name, of in lineage.items()} == {
        "order_id": ["id"],
        "doubled": ["price"],
    }
    checks = made["facets"]["dataQualityAssertions"]["assertions"]
    assert {one["assertion"]: one["success"] for one in checks} == {"fct_grain": True, "fct_positive": False}
    assert [one["name"].partition(".")[2] for one in built["inputs"]] == ["raw_shop.orders"]
    (mart,) = published["outputs"]
    assert published["job"]["name"] == "publish marts"
    assert mart["name"].endswith(".marts.fct")
    assert mart["outputFacets"]["outputStatistics"]["rowCount"] == 7
    (from_built,) = mart["facets"]["columnLineage"]["fields"]["doubled"]["inputFields"]
    assert (from_built["name"].partition(".")[2], from_built["field"]) == ("build.fct", "doubled")


WORK = Work("load", "shop.orders", "r", NOON, NOON, [Dataset("files://shop", "orders")], [Dataset("p", "w.orders")])


def test_they_go_to_a_url(monkeypatch: pytest.MonkeyPatch) -> None:
    with prometheus.receiver() as (url, got):
        monkeypatch.setenv("OPENLINEAGE_URL", url)
        monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "grocer")
        openlineage.emit([WORK])
        sent = [got.get(timeout=30) for _ in range(2)]
    for event in sent:
        check_event(event)
    assert [event["eventType"] for event in sent] == ["START", "COMPLETE"]
    assert sent[0]["job"]["namespace"] == "grocer"


def test_a_receiver_that_is_down_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{prometheus.free_port()}")
    openlineage.emit([WORK])
    assert "warning: OpenLineage events are not sent: ConnectionError" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("environment", "file", "url"),
    [
        ({}, None, None),
        ({"OPENLINEAGE_URL": "http://a:5000"}, None, "http://a:5000/api/v1/lineage"),
        ({"OPENLINEAGE_URL": "http://a/", "OPENLINEAGE_ENDPOINT": "/x"}, None, "http://a/x"),
        ({"OPENLINEAGE_URL": "http://a", "OPENLINEAGE_DISABLED": "true"}, None, None),
        (
            {},
            "transport: {type: http, url: 'http://b', auth: {type: api_key, apiKey: s3cret}}",
            "http://b/api/v1/lineage",
        ),
        (
            {"OPENLINEAGE__TRANSPORT__TYPE": "http", "OPENLINEAGE__TRANSPORT__URL": "http://c"},
            None,
            "http://c/api/v1/lineage",
        ),
        ({}, "transport: {type: noop}", None),
    ],
)
def test_where_they_go_is_said_by_the_standard_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: dict[str, str], file: str | None, url: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if file:
        (tmp_path / "openlineage.yml").write_text(file)
        monkeypatch.setenv("OPENLINEAGE_CONFIG", str(tmp_path / "openlineage.yml"))
    found = openlineage.transport()
    assert (found.url if found else None) == url
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize("text", ["transport: {type: kafka}", "transport: {type: http}", "transport: [", "7"])
def test_a_configuration_that_is_wrong_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    (tmp_path / "ol.yml").write_text(text)
    monkeypatch.setenv("OPENLINEAGE_CONFIG", str(tmp_path / "ol.yml"))
    with pytest.raises(GranaryError, match="OpenLineage"):
        openlineage.transport()
