"""Lists within rows as tables of their own: whole, growing, or replaced with the row that holds them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.load.api import load_table
from granary.readers.api.nested import Nested, listed
from granary.readers.api.pages import NotAgreedError
from granary.readers.rest import Api, Endpoint, RestReader, Since
from granary.sources.spec import Column, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings
    from tests.python.engine.apis.conftest import Service

    Rows = Callable[..., list[tuple[object, ...]]]
    Declare = Callable[..., None]

INSTANT = pa.timestamp("us", tz="UTC")
ORDERS = Endpoint("/orders", since=Since("since"))
ITEMS = Nested(ORDERS, (("items", "item_number"),), (("order_id", "id"), ("order_changed_at", "changed_at")))
DISCOUNTS = Nested(ORDERS, (("items", "item_number"), ("price.discounts", "discount_number")), (("order_id", "id"),))
TAGS = Nested(ORDERS, (("tags", "place"),), (("order_id", "id"),))


def column(name: str, kind: pa.DataType, *aliases: str, key: bool = False) -> Column:
    return Column(name, kind, "A column.", nullable=not key, aliases=aliases)


def table(name: str, location: str, columns: tuple[Column, ...], disposition: Any, *key: str, **more: Any) -> Table:
    return Table(name, "A table.", location, columns, disposition, timedelta(days=1), key, max_refused=1.0, **more)


NUMBER = pa.int64()
ORDER = table(
    "orders",
    "/orders",
    (column("id", NUMBER, key=True), column("city", pa.string(), "ship_to.city"), column("changed_at", INSTANT)),
    "merge",
    "id",
    cursor="changed_at",
)
ITEM_COLUMNS = (
    column("order_id", NUMBER, key=True),
    column("item_number", NUMBER, key=True),
    column("order_changed_at", INSTANT),
    column("sku", pa.string()),
    column("amount", pa.decimal128(8, 2), "price.amount"),
)
ITEM_KEY = ("order_id", "item_number")


def order(number: int, *items: Any, day: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "changed_at": f"2017-03-0{day}T00:00:00Z",
        "ship_to": {"city": f"City {number}"},
        "items": list(items),
    } | more


def item(sku: str, amount: float, *discounts: str) -> dict[str, Any]:
    return {"sku": sku, "price": {"amount": amount, "discounts": [{"code": code} for code in discounts]}}


@pytest.fixture
def load(warehouse: Settings, service: Service, source: Declare) -> Callable[[Table], Any]:
    """Return a function that loads one table of the shop."""

    def run(contract: Table) -> Any:
        source(lambda: RestReader(Api(service.url), ORDERS, ITEMS, DISCOUNTS, TAGS), contract)
        return load_table(warehouse, "shop", contract.name)

    return run


def orders_since(service: Service, orders: list[dict[str, Any]]) -> None:
    """Serve the orders; those that changed at or after `since`, if that is asked for."""
    service.routes["/orders"] = lambda r: {
        "data": [o for o in orders if o["changed_at"] >= r.query.get("since", "").replace("+00:00", "Z")]
    }


def test_parents_and_children_are_tables(service: Service, load: Callable[[Table], Any], rows: Rows) -> None:
    orders_since(
        service,
        [
            order(1, item("a", 1.5, "X", "Y"), item("b", 2)),
            order(2),
            order(3, item("a", 0.1, "X"), tags=["new", "old"]),
        ],
    )
    load(ORDER)
    # The lists that are tables are no columns of their parent; neither is the object whose only part is one.
    assert rows("select * from raw_shop.orders order by id")[0][:2] == (1, "City 1")
    assert [name for (name,) in rows("select column_name::text from information_schema.columns"
        " where table_schema = 'raw_shop' and table_name = 'orders' order by ordinal_position")] == [
        "id", "city", "changed_at", "_load_id", "_row"]  # fmt: skip
    load(table("items", "/orders#items", ITEM_COLUMNS, "replace", *ITEM_KEY))
    assert rows("select order_id, item_number, sku, amount::text from raw_shop.items order by 1, 2") == [
        (1, 1, "a", "1.50"),
        (1, 2, "b", "2.00"),
        (3, 1, "a", "0.10"),
    ]
    discounts = (*ITEM_COLUMNS[:2], column("discount_number", NUMBER, key=True), column("code", pa.string()))
    load(table("discounts", "/orders#items.price.discounts", discounts, "replace", *ITEM_KEY, "discount_number"))
    assert rows("select order_id, item_number, discount_number, code from raw_shop.discounts order by 1, 2, 3") == [
        (1, 1, 1, "X"),
        (1, 1, 2, "Y"),
        (3, 1, 1, "X"),
    ]
    tags = (column("order_id", NUMBER, key=True), column("place", NUMBER, key=True), column("value", pa.string()))
    load(table("tags", "/orders#tags", tags, "replace", "order_id", "place"))
    assert rows("select order_id, place, value from raw_shop.tags order by 1, 2") == [(3, 1, "new"), (3, 2, "old")]


def test_an_item_that_is_taken_out_of_its_order(service: Service, load: Callable[[Table], Any], rows: Rows) -> None:
    """Only the orders that changed are read, and their items replace the earlier ones, also by none."""
    orders = [order(n, item("a", 1), item("b", 2)) for n in (1, 2, 3)]
    orders_since(service, orders)
    contract = table("items", "/orders#items", ITEM_COLUMNS, "replace_unit", cursor="order_changed_at")
    assert load(contract).rows_loaded == 6
    orders[0] = order(1, item("b", 2), day=2)
    orders[1] = order(2, day=2)
    orders[2] = order(3, item("a", 1), item("b", 2), day=1)
    result = load(contract)
    assert service.paths("/orders")[-1] == {"since": "2017-03-01T00:00:00+00:00"}
    assert (result.rows_loaded, result.rows_deleted) == (1, 4)
    assert sorted(result.units_loaded) == ["/orders#items?order_id=1", "/orders#items?order_id=2"]
    assert rows("select order_id, item_number, sku from raw_shop.items order by 1, 2") == [
        (1, 1, "b"),
        (3, 1, "a"),
        (3, 2, "b"),
    ]
    assert load(contract).status == "unchanged"


def test_lists_that_only_grow_are_merged(service: Service, load: Callable[[Table], Any], rows: Rows) -> None:
    orders = [order(1, item("a", 1))]
    orders_since(service, orders)
    contract = table("items", "/orders#items", ITEM_COLUMNS, "merge", *ITEM_KEY, cursor="order_changed_at")
    load(contract)
    orders.append(order(2, item("c", 3), day=2))
    assert load(contract).rows_loaded == 2
    assert rows("select order_id, sku from raw_shop.items order by 1") == [(1, "a"), (2, "c")]


def test_lists_that_are_none_are_refused_alone(service: Service, load: Callable[[Table], Any], rows: Rows) -> None:
    orders_since(
        service,
        [
            order(1, item("a", 1), 7),
            order(2) | {"items": "none"},
            {"changed_at": "2017-03-01T00:00:00Z", "items": [item("z", 1)]},
            order(4) | {"items": None},
            order(5, item("b", 1)),
        ],
    )
    result = load(table("items", "/orders#items", ITEM_COLUMNS, "replace", *ITEM_KEY))
    assert (result.rows_read, result.rows_loaded, result.rows_quarantined) == (5, 3, 2)
    assert rows("select column_name, reason, payload ->> 'order_id' from ops.quarantine order by row_number") == [
        ("items", "is not a list", "2"),
        ("id", "is missing in the row that holds the list", None),
    ]
    assert rows("select order_id, item_number, sku from raw_shop.items order by 1, 2") == [
        (1, 1, "a"),
        (1, 2, None),
        (5, 1, "b"),
    ]


def test_connections_are_lists_if_they_are_whole() -> None:
    assert listed({"nodes": [1, 2], "pageInfo": {"hasNextPage": False}}) == [1, 2]
    assert listed({"edges": [{"node": 1}], "pageInfo": {"hasNextPage": False}}) == [1]
    for cut in ({"nodes": [1], "pageInfo": {"hasNextPage": True}}, {"nodes": [1]}):
        with pytest.raises(NotAgreedError, match="has more rows than the answer, or does not say so"):
            listed(cut)


@pytest.mark.parametrize(
    ("levels", "keys"),
    [
        ((), (("a", "b"),)),
        ((("x", "n"),), ()),
        ((("x", "n"),), (("n", "b"),)),
        ((("x", "n"), ("y", "n")), (("a", "b"),)),
    ],
)
def test_rows_that_could_not_be_told_apart(levels: Any, keys: Any) -> None:
    with pytest.raises(ValueError, match="a nested table needs a list, a key of its parent, and different names"):
        Nested(ORDERS, levels, keys)
