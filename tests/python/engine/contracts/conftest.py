"""A manifest with one mart, as dbt parses it, and a project folder of its own for the contracts."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from granary.dbt import manifest as dbt_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FACT = "model.shop.fct_orders"


def column(name: str, kind: str, *, required: bool = False, **meta: object) -> dict[str, Any]:
    constraints = [{"type": "not_null"}] if required else []
    config = {"meta": meta}
    return {
        "name": name,
        "data_type": kind,
        "description": f"The {name}.",
        "constraints": constraints,
        "config": config,
    }


def data_test(
    name: str, node: str, metadata: dict[str, Any] | None, column_name: str = "", **more: Any
) -> dict[str, Any]:
    test = {"resource_type": "test", "name": name, "attached_node": node, "column_name": column_name or None}
    return test | {"test_metadata": metadata, "depends_on": {"nodes": [node]}, "config": {"severity": "ERROR"}} | more


def mart(name: str, columns: list[dict[str, Any]], **meta: object) -> dict[str, Any]:
    return {
        "resource_type": "model", "package_name": "shop", "unique_id": f"model.shop.{name}", "name": name,
        "schema": "build", "description": f"One row per line of {name}.", "group": "sales", "deprecation_date": None,
        "config": {"schema": "build", "grants": {"select": ["analyst"]}, "meta": meta},
        "columns": {one["name"]: one for one in columns},
    }  # fmt: skip


@pytest.fixture
def manifest() -> dict[str, Any]:
    """Orders with a key, a list of states, a masked name, a way to the customers; a metric, and two exposures."""
    fact = mart(
        "fct_orders",
        [
            column("order_id", "bigint", required=True),
            column("customer_id", "bigint"),
            column("state", "text"),
            column("amount", "numeric(12,2)"),
            column("sold_at", "timestamp with time zone"),
            column("name", "text", personal="identifier"),
        ],
        declared_indexes=[{"name": "grain", "columns": ["order_id"], "unique": True}],
        unmasked={"select": ["analyst_pii"]},
    )
    people = mart("dim_customer", [column("customer_id", "bigint", required=True)])
    states = {"name": "accepted_values", "kwargs": {"values": ["open", "paid"], "model": "x", "column_name": "state"}}
    leads = {"name": "relationships", "kwargs": {"to": "ref('dim_customer')", "field": "customer_id", "model": "x"}}
    above = {"name": "expression_is_true", "kwargs": {"expression": "amount >= 0", "model": "x"}}
    indexed = {"name": "has_declared_indexes", "kwargs": {"model": "x"}}
    key = {"name": "unique", "kwargs": {"model": "x", "column_name": "customer_id"}}
    tests = [
        data_test("states_known", FACT, states, "state"),
        data_test("customer_known", FACT, leads, "customer_id"),
        data_test("amount_not_negative", FACT, above),
        data_test("indexed", FACT, indexed),
        data_test("only_a_warning", FACT, deepcopy(above), config={"severity": "warn"}),
        data_test("customers_unique", people["unique_id"], key, "customer_id"),
    ]
    measure = {"name": "sales", "expr": "amount"}
    of = {"depends_on": {"nodes": ["semantic_model.shop.orders"]}, "group": "sales"}
    params = {"type_params": {"input_measures": [{"name": "sales"}]}}
    owner = {"name": "Ann", "email": "ann@example.com"}
    return {
        "metadata": {"project_name": "shop"},
        "nodes": {one["unique_id"]: one for one in (fact, people)} | {f"test.shop.{t['name']}": t for t in tests},
        "sources": {"source.shop.till.orders": {"freshness": {"warn_after": {"count": 2, "period": "day"}}}},
        "parent_map": {FACT: ["source.shop.till.orders"], people["unique_id"]: []},
        "groups": {"group.shop.sales": {"name": "sales", "description": "Sales people.", "owner": owner}},
        "semantic_models": {
            "semantic_model.shop.orders": {
                "depends_on": {"nodes": [FACT]}, "measures": [measure], "entities": [], "dimensions": [],
            }
        },
        "metrics": {
            "metric.shop.sales": {"name": "sales", **of, **params},
            "metric.shop.twice": {
                "name": "twice", "depends_on": {"nodes": ["metric.shop.sales"]}, "type_params": {}, "group": "sales",
            },
        },
        "exposures": {
            "exposure.shop.page": {"name": "page", "owner": owner, "depends_on": {"nodes": [FACT]}},
            "exposure.shop.report": {"name": "report", "owner": owner, "depends_on": {"nodes": ["metric.shop.twice"]}},
            "exposure.shop.other": {"name": "other", "owner": owner, "depends_on": {"nodes": [people["unique_id"]]}},
        },
    }  # fmt: skip


@pytest.fixture
def changed(manifest: dict[str, Any]) -> dict[str, Any]:
    """The same manifest, to be changed."""
    return deepcopy(manifest)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any]], Path]:
    """Return a function by which the project in a folder of its own has a manifest; it returns the folder."""
    for module in ("granary.contracts.store.PROJECT", "granary.cli.contracts.PROJECT"):
        monkeypatch.setattr(module, tmp_path)
    monkeypatch.setenv("GRANARY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PGHOST", raising=False)

    def has(manifest: dict[str, Any]) -> Path:
        path = tmp_path / f"manifest{len(list(tmp_path.glob('manifest*')))}.json"
        path.write_text(json.dumps(manifest))
        monkeypatch.setattr(dbt_manifest, "prepare", lambda _: path)
        return tmp_path

    return has
