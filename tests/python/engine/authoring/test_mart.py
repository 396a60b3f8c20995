"""What a mart becomes, by its grain and by what the model it is made from declares."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from granary.scaffold import mart_increments
from granary.scaffold.mart import PlannedMart, plan
from granary.scaffold.mart_files import files, sql
from granary.warehouse.errors import GranaryError, UsageError

MODEL = "model.shop.stg_bakery__orders"
TYPES = {
    "order_id": "bigint", "customer_id": "bigint", "ordered_at": "timestamp with time zone", "due_on": "date",
    "channel": "text", "pieces": "integer", "amount": "numeric(18, 2)", "weight": "double precision",
    "load_id": "bigint", "load_row": "integer",
}  # fmt: skip


def manifest(**types: str) -> dict[str, Any]:
    """Return what dbt knows of a staging model with a unique key."""
    columns: dict[str, Any] = {
        name: {"name": name, "data_type": kind, "description": f"{name}.", "config": {"meta": {}}}
        for name, kind in (types or TYPES).items()
    }
    if "customer_id" in columns:
        columns["pieces"]["description"] = "pieces: never empty, 9 values. From 1 to 9."
        columns["customer_id"]["config"]["meta"] = {"personal": "pseudonym", "subject": "customer"}
    return {
        "nodes": {
            MODEL: {
                "name": "stg_bakery__orders", "unique_id": MODEL, "resource_type": "model", "columns": columns,
                "config": {"schema": "staging", "meta": {}}, "original_file_path": "models/staging/x.sql",
            },
            "test.shop.unique": {
                "name": "orders_order_id_unique", "resource_type": "test", "attached_node": MODEL,
                "test_metadata": {"name": "unique", "kwargs": {"column_name": "order_id"}}, "config": {},
            },
        }
    }  # fmt: skip


def mart(*grain: str, name: str = "fct_orders", day: str | None = None) -> PlannedMart:
    return plan(manifest(), name, "stg_bakery__orders", grain, day)


def test_rows_are_taken_as_they_are_where_the_grain_identifies_them() -> None:
    made = mart("order_id")
    assert not made.grouped
    assert [column.name for column in made.columns] == [
        "order_id", "customer_id", "ordered_at", "due_on", "channel", "pieces", "amount", "weight", "business_date",
    ]  # fmt: skip
    assert made.measures == [
        "pieces",
        "amount",
    ]  # to the digit in every order; keys add up to nothing
    assert made.day == "business_date"
    assert "    cast(ordered_at at time zone '{{ var(\"time_zone\") }}' as date) as business_date\n" in sql(made)
    assert "group by" not in sql(made)


def test_rows_are_added_up_where_it_does_not() -> None:
    made = mart("business_date", "channel", name="daily_orders")
    assert made.grouped
    assert [(column.name, column.type) for column in made.columns] == [
        ("business_date", "date"), ("channel", "text"), ("order_count", "bigint"), ("pieces", "bigint"),
        ("amount", "numeric"), ("weight", "double precision"),
    ]  # fmt: skip
    assert made.measures == ["order_count", "pieces", "amount"]
    assert made.sums == ["pieces", "amount", "weight"]
    assert made.left_out == ("order_id", "customer_id", "due_on")
    assert sql(made).endswith(
        "from orders\ngroup by\n    cast(ordered_at at time zone '{{ var(\"time_zone\") }}' as date),\n    channel\n"
    )


@pytest.mark.parametrize(
    ("name", "kind", "is_added"),
    [
        ("price_number", "numeric", True),  # what staging makes of a price that is text
        ("price_number", "numeric(18, 2)", True),
        ("order_number", "numeric(20, 0)", False),
        ("order_number", "bigint", False),
        ("order_id", "double precision", False),
        ("eggs", "bigint", True),
        ("discount_percent", "numeric", False),
        ("tax_rate", "numeric(5, 2)", False),
        ("latitude", "double precision", False),
        ("avg_price", "numeric(10, 2)", False),
        ("average_order_value", "numeric(10, 2)", False),
        ("exchange_rate_usd", "numeric(10, 6)", False),
        ("closing_balance", "numeric(18, 2)", False),
        ("balance_eur_number", "numeric", False),
        ("unit_price", "numeric(10, 2)", False),
        ("price_per_kg", "numeric(10, 2)", False),
        ("stock_on_hand", "integer", False),
        ("temperature_c", "double precision", False),
        ("max_speed", "integer", False),
        ("day_of_week", "smallint", False),
        ("price", "numeric(10, 2)", True),
        ("duration_min", "integer", True),
        ("weeks_rented", "integer", True),
        ("hours", "numeric(6, 2)", True),
        ("hour", "integer", False),
        ("shares_sold", "integer", True),
        ("points", "integer", True),
        ("mileage", "integer", True),
        ("phone_number", "numeric", False),
    ],
)
def test_shares_and_keys_are_not_added_up(name: str, kind: str, is_added: bool) -> None:
    made = plan(manifest(pieces="integer", day="date", **{name: kind}), "daily", "stg_bakery__orders", ("day",), "day")
    assert (name in [column.name for column in made.columns]) is is_added
    assert (name in made.left_out) is not is_added


def test_a_date_is_the_business_date_where_the_grain_says_so() -> None:
    made = plan(manifest(visited="date", pieces="integer"), "daily", "stg_bakery__orders", ("business_date",))
    assert [(column.name, column.expression) for column in made.columns] == [
        ("business_date", "visited"), ("order_count", "count(*)"), ("pieces", "cast(sum(pieces) as bigint)"),
    ]  # fmt: skip
    assert made.day == "business_date"
    assert made.left_out == ()
    assert "    visited as business_date" in sql(made)
    assert sql(made).endswith("from orders\ngroup by\n    visited\n")


def test_a_grain_of_numbers_is_no_measure() -> None:
    made = plan(manifest(shelf="integer", pieces="integer"), "by_shelf", "stg_bakery__orders", ("shelf",))
    assert [column.name for column in made.columns] == ["shelf", "order_count", "pieces"]
    assert made.measures == ["order_count", "pieces"]


def test_the_yaml_has_the_contract_the_grain_and_how_a_row_is_explained() -> None:
    (model,) = yaml.safe_load(files(mart("order_id"))["models/marts/core/fct_orders.yml"])["models"]
    meta = model["config"]["meta"]
    assert meta["declared_indexes"] == [
        {"name": "fct_orders_grain", "columns": ["order_id"], "unique": True},
        {"columns": ["business_date"]},
    ]
    assert meta["explained_by"] == [
        {
            "model": "stg_bakery__orders",
            "match": ["order_id"],
            "numbers": {"pieces": "sum(pieces)", "amount": "sum(amount)"},
        }
    ]
    columns = {column["name"]: column for column in model["columns"]}
    assert columns["channel"]["description"] == "channel."
    assert columns["pieces"]["description"] == "Pieces."  # what a sample showed is not true of all that comes
    assert columns["order_id"]["constraints"] == [{"type": "not_null"}]
    assert columns["customer_id"]["config"] == {"meta": {"personal": "pseudonym", "subject": "customer"}}
    assert "constraints" not in columns["channel"]


def test_the_day_is_the_one_that_is_named_and_a_dimension_has_none() -> None:
    made = mart("order_id", day="due_on")
    assert (made.day, [column.name for column in made.columns][-1]) == ("due_on", "weight")
    assert mart("order_id", name="dim_order").day == ""


@pytest.mark.parametrize(
    ("name", "model", "grain", "error", "said"),
    [
        ("Fct", "stg_bakery__orders", "order_id", UsageError, "cannot be the name of a mart"),
        ("order", "stg_bakery__orders", "order_id", UsageError, "means something in SQL"),
        ("fct", "stg_bakery__order", "order_id", UsageError, "did you mean stg_bakery__orders"),
        ("fct", "stg_bakery__orders", "order", UsageError, "there is no column 'order'"),
        ("stg_bakery__orders", "stg_bakery__orders", "order_id", UsageError, "cannot be the name of a mart"),
    ],
)
def test_what_cannot_be(name: str, model: str, grain: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        plan(manifest(), name, model, (grain,))


def test_a_day_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no date or time 'channel'"):
        mart("order_id", day="channel")


def test_a_model_without_types_is_refused() -> None:
    with pytest.raises(GranaryError, match="does not say what types its columns have"):
        plan(manifest(order_id=""), "fct", "stg_bakery__orders", ("order_id",))


def test_an_incremental_mart_overwrites_the_days_that_its_log_names() -> None:
    made = mart_increments.files(mart("order_id"), mart_increments.Delivery("bakery", "orders", tuple(TYPES)))
    query = made["models/marts/core/fct_orders.sql"]
    assert "meta={'changes': 'int_fct_orders__changed_days', 'partition_by': 'business_date'}," in query
    assert "unique_key" not in query
    assert "partition='business_date'" in made["models/intermediate/bakery/int_fct_orders__changed_days.sql"]
