"""The graph of columns and what is known of the marts, against what a person reads in the seven tables."""

from __future__ import annotations

from typing import Any

import pytest

from granary.dbt.column_lineage import Column, ColumnGraph, column_graph
from granary.pages.docs.marts import Join, Mart, marts
from tests.python.support.artifacts import MODEL, SOURCE, catalog, manifest


def graph_of(of: dict[str, Any]) -> ColumnGraph:
    return column_graph(of, catalog(of))


@pytest.fixture(scope="module")
def graph() -> ColumnGraph:
    return graph_of(manifest())


@pytest.fixture(scope="module")
def found(graph: ColumnGraph) -> dict[str, Mart]:
    of = manifest()
    return {mart.name: mart for mart in marts(of, catalog(of), graph)}


def test_a_column_leads_back_to_the_raw_column_and_forth_to_the_mart(graph: ColumnGraph) -> None:
    price = [
        Column(f"{MODEL}.daily_rentals", "price"),
        Column(f"{MODEL}.fct_rentals", "price"),
        Column(f"{MODEL}.stg_shop__rentals", "price"),
        Column(f"{SOURCE}.rentals", "price"),
    ]
    assert [graph.origins[column] for column in price] == [(price[1],), (price[2],), (price[3],), ()]
    assert graph.upstream(price[0]) == set(price[1:])
    assert graph.downstream(price[3]) == set(price[:3])
    assert not graph.unresolved


def test_a_snapshot_s_columns_come_from_what_it_keeps(graph: ColumnGraph) -> None:
    changed, key = Column(f"{SOURCE}.bikes", "changed_at"), Column(f"{SOURCE}.bikes", "bike_id")
    snapshot = "snapshot.shop.snap_shop__bikes"
    assert graph.origins[Column(snapshot, "colour")] == (Column(f"{SOURCE}.bikes", "colour"),)
    assert graph.origins[Column(snapshot, "dbt_scd_id")] == (key, changed)
    assert graph.upstream(Column(f"{MODEL}.daily_rentals", "bike_key")) >= {changed, key}


def test_a_count_of_rows_is_resolved_and_has_no_origin(graph: ColumnGraph) -> None:
    assert graph.origins[Column(f"{MODEL}.daily_rentals", "rentals")] == ()


@pytest.mark.parametrize(
    ("sql", "unresolved"),
    [
        ("select bike_key, 1 as rentals, price + elsewhere.rate as price from build.fct_rentals, elsewhere", {"price"}),
        ("select from", {"bike_key", "rentals", "price"}),
        ("", {"bike_key", "rentals", "price"}),
    ],
)
def test_what_cannot_be_resolved_is_said(sql: str, unresolved: set[str]) -> None:
    of = manifest()
    of["nodes"][f"{MODEL}.daily_rentals"]["compiled_code"] = sql
    assert {column.name for column in graph_of(of).unresolved} == unresolved


def test_an_ephemeral_model_is_looked_through() -> None:
    of = manifest()
    staging = of["nodes"][f"{MODEL}.stg_shop__rentals"]
    staging["config"]["materialized"] = "ephemeral"
    fact = of["nodes"][f"{MODEL}.fct_rentals"]
    fact["compiled_code"] = f"with __dbt__cte__stg as ({staging['compiled_code']}) " + fact["compiled_code"].replace(
        "staging.stg_shop__rentals", "__dbt__cte__stg"
    )
    graph = graph_of(of)
    assert graph.origins[Column(f"{MODEL}.fct_rentals", "price")] == (Column(f"{SOURCE}.rentals", "price"),)
    assert not any(column.node == staging["unique_id"] for column in graph.origins)


def test_marts_come_by_area_and_their_key_is_the_unique_index(found: dict[str, Mart]) -> None:
    assert list(found) == ["fct_rentals", "dim_bike", "daily_rentals", "bike_kinds"]
    assert [mart.area for mart in found.values()] == ["core", "core", "sales", "reference"]
    assert [mart.grain for mart in found.values()] == [("rental_id",), ("bike_key",), ("bike_key",), ()]


def test_joins_are_what_is_tested_and_what_is_taken_from_there(found: dict[str, Mart]) -> None:
    bike = Join("bike_key", "dim_bike", "bike_key", "rentals_bike_known", is_one=True)
    kind = Join("kind", "bike_kinds", "kind", "rentals_kind_known", is_one=False)
    assert found["fct_rentals"].joins == (bike, kind)
    taken = Join("bike_key", "dim_bike", "bike_key", "rentals_bike_known", inherited=True, is_one=True, is_single=True)
    assert found["daily_rentals"].joins == (taken,)
    assert found["dim_bike"].joins == found["bike_kinds"].joins == ()


def test_a_column_under_another_name_leads_nowhere(found: dict[str, Mart]) -> None:
    of = manifest()
    daily = of["nodes"][f"{MODEL}.daily_rentals"]
    daily["compiled_code"] = "select count(distinct bike_key) as rentals from build.fct_rentals"
    daily["columns"] = {"rentals": daily["columns"]["rentals"]}
    (mart,) = (one for one in marts(of, catalog(of), graph_of(of)) if one.name == "daily_rentals")
    assert mart.joins == ()
    assert mart.made_from == ("fct_rentals",)


def test_a_mart_knows_where_it_is_shown_and_what_it_is_made_from(found: dict[str, Mart]) -> None:
    assert found["daily_rentals"].pages == (("Bikes", "bikes.html"),)
    assert found["fct_rentals"].pages == ()
    assert found["daily_rentals"].made_from == ("fct_rentals",)
    assert found["fct_rentals"].made_from == ("dim_bike",)
