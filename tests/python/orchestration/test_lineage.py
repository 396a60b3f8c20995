"""Column lineage out of SQL, checked against what a person reads in the statement."""

from __future__ import annotations

from orchestration.lineage import column_lineage

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
