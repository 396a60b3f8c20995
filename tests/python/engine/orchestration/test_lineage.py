"""Column lineage out of SQL, checked against what a person reads in the statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from granary.dagster.dbt_build import columns_from
from granary.dbt import known_lineage
from granary.dbt.known_lineage import KnownLineage
from granary.dbt.lineage import column_lineage

if TYPE_CHECKING:
    import pytest

    from granary.warehouse.settings import Settings

PARENTS = {
    "raw_pos.transactions": {"basket_id": "bigint", "sales_value": "float8", "retail_disc": "float8"},
    "marts.dim_product": {"product_id": "bigint", "product_key": "text"},
}


def test_a_sum_over_a_case_comes_from_every_column_in_it() -> None:
    sql = """
        with lines as (select * from "granary"."raw_pos"."transactions")
        select
            basket_id,
            sum(case when sales_value > 0 then sales_value + retail_disc end)::numeric(12, 2) as regular_value,
            count(*) as line_count
        from lines
        group by basket_id
    """
    assert column_lineage(sql, PARENTS) == {
        "basket_id": [("raw_pos.transactions", "basket_id")],
        "regular_value": [("raw_pos.transactions", "retail_disc"), ("raw_pos.transactions", "sales_value")],
        "line_count": [],
    }


def test_a_join_keeps_the_parents_apart() -> None:
    sql = """
        select t.basket_id, p.product_key
        from granary.raw_pos.transactions as t
        inner join granary.marts.dim_product as p on t.basket_id = p.product_id
    """
    assert column_lineage(sql, PARENTS) == {
        "basket_id": [("raw_pos.transactions", "basket_id")],
        "product_key": [("marts.dim_product", "product_key")],
    }


def test_a_statement_that_cannot_be_read_has_no_lineage() -> None:
    assert column_lineage("select from where (", PARENTS) == {}


def test_a_named_window_brings_what_it_sorts_and_partitions_by() -> None:
    sql = """
        with ranked as (
            select *, row_number() over by_sales as place, sum(sales_value) over (by_sales) as up_to_this
            from raw_pos.transactions
            window by_sales as (partition by basket_id order by sales_value)
        )
        select place, up_to_this from ranked
    """
    both = [("raw_pos.transactions", "basket_id"), ("raw_pos.transactions", "sales_value")]
    assert column_lineage(sql, PARENTS) == {"place": both, "up_to_this": both}


def test_a_lateral_subquery_is_read_and_not_what_it_is_filtered_by() -> None:
    """As in `fct_promotions`, where sqlglot alone names the columns of the filter, and no other."""
    sql = """
        select lines.basket_id, lines.most
        from marts.dim_product as p
        cross join lateral (
            select t.basket_id, max(t.sales_value) as most
            from raw_pos.transactions as t
            where t.basket_id = p.product_id
            group by t.basket_id
        ) as lines
    """
    assert column_lineage(sql, PARENTS) == {
        "basket_id": [("raw_pos.transactions", "basket_id")],
        "most": [("raw_pos.transactions", "sales_value")],
    }


def test_what_a_function_returns_comes_from_what_it_is_given() -> None:
    sql = """
        select parts.key, days.day_at, t.basket_id
        from raw_pos.transactions as t
        cross join jsonb_each_text(t.retail_disc) as parts (key, value)
        cross join generate_series(1, 3) as days (day_at)
    """
    assert column_lineage(sql, PARENTS) == {
        "key": [("raw_pos.transactions", "retail_disc")],
        "day_at": [],
        "basket_id": [("raw_pos.transactions", "basket_id")],
    }


def test_half_a_lineage_is_none() -> None:
    sql = """
        select t.basket_id, t.sales_value + u.rate as value
        from raw_pos.transactions as t cross join elsewhere.unknown as u
    """
    assert column_lineage(sql, PARENTS) == {"basket_id": [("raw_pos.transactions", "basket_id")]}


def test_its_own_earlier_rows_are_no_origin() -> None:
    sql = "select basket_id from raw_pos.transactions union all select basket_id from marts.baskets"
    assert column_lineage(sql, PARENTS, "marts.baskets") == {"basket_id": [("raw_pos.transactions", "basket_id")]}
    assert column_lineage(sql, PARENTS) == {}


def test_an_assets_page_lists_what_its_columns_are_made_from() -> None:
    raw = dg.AssetKey(["raw_pos", "transactions"])
    deps = [dg.TableColumnDep(raw, "retail_disc"), dg.TableColumnDep(raw, "sales_value")]
    shown = columns_from(dg.TableColumnLineage({"regular_value": deps, "line_count": []}))
    assert [column.name for column in shown.schema.columns] == ["column", "made from"]
    assert [record.data for record in shown.records] == [
        {"column": "regular_value", "made from": "transactions.retail_disc, transactions.sales_value"},
        {"column": "line_count", "made from": ""},
    ]


def test_a_model_whose_sql_is_the_same_is_not_read_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    node: dict[str, Any] = {"resource_type": "model", "schema": "marts", "name": "m", "alias": "m", "config": {}}
    parents = {"raw.trips": {"trip_id": "bigint", "minutes": "integer"}}
    read = []
    reading: Any = known_lineage.node_lineage
    monkeypatch.setattr(known_lineage, "node_lineage", lambda *asked: read.append(asked[1]) or reading(*asked))

    def lineage(sql: str, known: KnownLineage) -> Any:
        return known.of(node, sql, parents)

    first = KnownLineage(settings)
    sql, other = "select trip_id from raw.trips", "select minutes as trip_id from raw.trips"
    assert lineage(sql, first) == {"trip_id": [("raw.trips", "trip_id")]}
    first.keep()
    again = KnownLineage(settings)
    assert lineage(sql, again) == {"trip_id": [("raw.trips", "trip_id")]}
    assert read == [sql]
    assert lineage(other, again) == {"trip_id": [("raw.trips", "minutes")]}
    assert read == [sql, other]
    parents["raw.trips"].pop("trip_id")
    assert lineage(sql, again) == {}, "a parent without the column"
    (settings.home / "dagster" / "dbt" / "lineage.json").write_text("half a fi")
    assert lineage(other, KnownLineage(settings)) == {"trip_id": [("raw.trips", "minutes")]}
