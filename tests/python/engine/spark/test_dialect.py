"""What a query for Postgres becomes for Spark depends on types, and what has no counterpart is refused."""

from __future__ import annotations

import pytest

from granary.spark.dialect import translated
from granary.warehouse.errors import GranaryError

TYPES = {
    "shop.orders": {
        "order_id": "bigint", "quantity": "int", "price": "decimal(12,2)", "weight": "double", "ordered": "date",
        "due": "date", "placed": "timestamp_ntz", "paid": "timestamp", "note": "string",
    }
}  # fmt: skip


def asked(expression: str) -> str:
    """Return what a column of a query becomes."""
    sql = translated(f"select {expression} as x from shop.orders", lambda name: TYPES.get(name, {}), "models/x.sql")
    return " ".join(sql.split()).removeprefix("SELECT ").removesuffix(" AS x FROM shop.orders AS orders")


@pytest.mark.parametrize(
    ("postgres", "spark"),
    [
        ("due - ordered", "DATEDIFF(orders.due, orders.ordered)"),
        ("due - 7", "orders.due - 7"),
        ("due - quantity * (due - ordered)", "orders.due - orders.quantity * ( DATEDIFF(orders.due, orders.ordered) )"),
        ("quantity / 2", "( orders.quantity DIV 2 )"),
        ("weight / 2", "orders.weight / 2"),
        ("price / quantity", "CAST(orders.price AS DECIMAL(26, 8)) / CAST(orders.quantity AS DECIMAL(26, 8))"),
        ("avg(quantity)", "AVG(CAST(orders.quantity AS DECIMAL(38, 20)))"),
        ("avg(weight)", "AVG(orders.weight)"),
        ("cast(quantity as smallint)", "CAST(orders.quantity AS SMALLINT)"),
        ("cast(price as integer)", "CAST(ROUND(orders.price) AS INT)"),
        ("cast(quantity as numeric)", "CAST(orders.quantity AS DECIMAL(38, 10))"),
        ("placed at time zone 'UTC'", "TO_UTC_TIMESTAMP(CAST(orders.placed AS TIMESTAMP), 'UTC')"),
        (
            "paid at time zone 'Asia/Tokyo'",
            "CAST(FROM_UTC_TIMESTAMP(orders.paid, 'Asia/Tokyo') AS TIMESTAMP_NTZ)",
        ),
        ("hashtextextended(note, 0)", "XXHASH64(orders.note, 0)"),
    ],
)
def test_an_expression_goes_by_its_types(postgres: str, spark: str) -> None:
    assert asked(postgres) == spark


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("jsonb_object_agg(note, price)", "jsonb_object_agg"),
        ("to_char(paid, 'Q')", "to_char"),
        ("array_agg(note order by paid)", "array_agg in the order of something else"),
        ("extract(epoch from interval '1 day')", "extract"),
        ("extract(epoch from ", "keyword"),
    ],
)
def test_what_has_no_counterpart_is_refused_with_its_file(expression: str, named: str) -> None:
    with pytest.raises(GranaryError, match=r"Spark cannot be asked this.*models/x\.sql.*enabled") as refused:
        asked(expression)
    assert named.lower() in str(refused.value).lower()
