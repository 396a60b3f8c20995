"""A GraphQL API: a real execution engine behind a real HTTP server."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from graphql import build_schema, graphql_sync

from granary.load.api import load_table
from granary.readers.api.spec import Api, Basic
from granary.readers.graphql import GraphqlReader, Nested, Query, Since
from granary.sources.spec import Column, Table
from granary.warehouse.errors import GranaryError
from tests.python.engine.apis.conftest import Reply, Request, Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]
    Declare = Callable[..., None]

SCHEMA = build_schema(
    """
    type Query {
      orders(first: Int!, after: String, since: String): Orders!
      plain: [Order]
      broken: [Order]
    }
    type Mutation { ship(id: ID!): Boolean }
    type Orders { edges: [Edge!]!, nodes: [Order]!, pageInfo: PageInfo! }
    type Edge { cursor: String!, node: Order }
    type PageInfo { hasNextPage: Boolean!, endCursor: String }
    type Order { id: Int!, changedAt: String!, customer: Customer, lines(first: Int!): Lines! }
    type Customer { name: String! }
    type Lines { nodes: [Line!]!, pageInfo: PageInfo! }
    type Line { sku: String!, amount: Float }
    """
)
BY_EDGES = """
# mutation { in a comment }
query Orders($first: Int!, $after: String, $since: String) {
  orders(first: $first, after: $after, since: $since) {
    edges { node { id changedAt customer { name } lines(first: 10) { nodes { sku amount } pageInfo { hasNextPage } } } }
    pageInfo { hasNextPage endCursor }
  }
}"""
BY_NODES = BY_EDGES.replace("edges { node {", "nodes {").replace("} } }\n", "} }\n")
ORDERS = Query("orders", BY_EDGES, "orders", size=("first", 3), since=Since("since"))
LINES = Nested(ORDERS, (("lines", "line"),), (("order_id", "id"),))

NUMBER = pa.int64()
ID = Column("id", NUMBER, "Key.", nullable=False)
CHANGED = Column("changed_at", pa.timestamp("us", tz="UTC"), "Changed.", aliases=("changedAt",))
CUSTOMER = Column("customer", pa.string(), "Customer.", aliases=("customer.name",))
COLUMNS = (ID, CHANGED, CUSTOMER)


def orders(**options: Any) -> Table:
    settings: dict[str, Any] = {"disposition": "merge", "key": ("id",), "cursor": "changed_at"} | options
    return Table("orders", "Orders.", "orders", COLUMNS, freshness=timedelta(days=1), **settings)


LINE_TABLE = Table(
    "lines",
    "Lines.",
    "orders#lines",
    (
        Column("order_id", NUMBER, "Order.", nullable=False),
        Column("line", NUMBER, "Line.", nullable=False),
        Column("sku", pa.string(), "What."),
        Column("amount", pa.decimal128(8, 2), "How much."),
    ),
    "replace",
    timedelta(days=1),
    ("order_id", "line"),
    max_refused=0.5,
)


class Shop:
    """Seven orders, the n-th of day n, with n - 1 lines."""

    def __init__(self) -> None:
        self.orders = [
            {
                "id": n,
                "changedAt": f"2017-03-0{n}T00:00:00Z",
                "customer": {"name": f"C{n}"} if n != 2 else None,
                "skus": [f"s{i}" for i in range(1, n)],
            }
            for n in range(1, 8)
        ]
        self.asked: list[dict[str, Any]] = []

    def resolve(self, _: Any, first: int, after: str | None = None, since: str = "") -> dict[str, Any]:
        chosen = [self._order(o) for o in self.orders if o["changedAt"] >= since.replace("+00:00", "Z")]
        start = int(after or 0)
        page = chosen[start : start + first]
        return {
            "edges": [{"cursor": "x", "node": order} for order in page],
            "nodes": page,
            "pageInfo": {"hasNextPage": start + first < len(chosen), "endCursor": str(start + first)},
        }

    def _order(self, order: dict[str, Any]) -> dict[str, Any]:
        def lines(_: Any, first: int) -> dict[str, Any]:
            nodes = [{"sku": sku, "amount": 0.25 * n} for n, sku in enumerate(order["skus"], 1)]
            return {"nodes": nodes[:first], "pageInfo": {"hasNextPage": len(nodes) > first}}

        return order | {"lines": lines}

    def answer(self, request: Request) -> Reply:
        asked = request.json
        self.asked.append(asked["variables"])
        root = {"orders": self.resolve, "plain": lambda _: [self._order(o) for o in self.orders[:2]], "broken": _broken}
        result = graphql_sync(SCHEMA, asked["query"], root, variable_values=asked["variables"])
        # Over HTTP, a query that cannot be executed at all is answered with 400.
        return Reply(result.formatted, 200 if result.data else 400)


def _broken(_: Any) -> list[Any]:
    return [{"id": 1, "changedAt": "2017-03-01T00:00:00Z"}, ValueError("disk on fire")]


@pytest.fixture
def shop(service: Service) -> Shop:
    """Return the shop behind a GraphQL endpoint."""
    made = Shop()
    service.routes["/graphql"] = made.answer
    return made


@pytest.fixture
def load(service: Service, source: Declare) -> Callable[..., Any]:
    """Return a function that loads one table by declared queries."""

    def run(settings: Settings, table: Table, *queries: Query | Nested, **api: Any) -> Any:
        source(lambda: GraphqlReader(Api(f"{service.url}/graphql", **api), *(queries or (ORDERS, LINES))), table)
        return load_table(settings, "shop", table.name)

    return run


@pytest.mark.parametrize("text", [BY_EDGES, BY_NODES])
def test_every_page_of_a_connection(
    warehouse: Settings, shop: Shop, load: Callable[..., Any], rows: Rows, text: str
) -> None:
    ask = Query("orders", text, "orders", size=("first", 3), since=Since("since"))
    assert load(warehouse, orders(), ask, Nested(ask, LINES.levels, LINES.keys)).rows_loaded == 7
    assert shop.asked == [{"first": 3}, {"first": 3, "after": "3"}, {"first": 3, "after": "6"}]
    landed = rows("select id, changed_at, customer from raw_shop.orders order by 1")
    assert [(row[0], row[1].day, row[2]) for row in landed] == [  # type: ignore[attr-defined]
        (n, n, f"C{n}" if n != 2 else None) for n in range(1, 8)
    ]
    shop.asked.clear()
    shop.orders[0]["changedAt"] = "2017-03-09T00:00:00Z"
    again = load(warehouse, orders(), ask)
    assert shop.asked == [{"first": 3, "since": "2017-03-07T00:00:00+00:00"}]
    assert (again.rows_read, again.watermark_after) == (2, "2017-03-09T00:00:00+00:00")


def test_connections_within_rows_are_tables(
    warehouse: Settings, shop: Shop, load: Callable[..., Any], rows: Rows
) -> None:
    assert load(warehouse, LINE_TABLE).rows_loaded == 21
    assert rows("select line, sku, amount::text from raw_shop.lines where order_id = 4 order by 1") == [
        (1, "s1", "0.25"),
        (2, "s2", "0.50"),
        (3, "s3", "0.75"),
    ]


def test_a_list_that_is_cut_off_is_not_taken_for_whole(
    warehouse: Settings, shop: Shop, load: Callable[..., Any], rows: Rows
) -> None:
    shop.orders[6]["skus"] = [f"s{i}" for i in range(1, 13)]
    result = load(warehouse, LINE_TABLE)
    assert (result.rows_loaded, result.rows_quarantined) == (15, 1)
    assert rows("select reason, payload ->> 'order_id' from ops.quarantine") == [
        ("has more rows than the answer, or does not say so (pageInfo.hasNextPage)", "7")
    ]


def test_a_plain_list(warehouse: Settings, shop: Shop, load: Callable[..., Any], rows: Rows) -> None:
    plain = Query("orders", "{ plain { id changedAt customer { name } } }", "plain")
    load(warehouse, orders(disposition="replace", cursor=None), plain)
    assert rows("select id, customer from raw_shop.orders order by 1") == [(1, "C1"), (2, None)]


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_data_beside_errors_is_not_taken(
    warehouse: Settings, nothing_landed: Callable[[], bool], shop: Shop, load: Callable[..., Any]
) -> None:
    broken = Query("orders", "{ broken { id changedAt } }", "broken")
    with pytest.raises(GranaryError, match="the query failed: disk on fire"):
        load(warehouse, orders(cursor=None), broken)
    assert nothing_landed()
    assert len(shop.asked) == 1


def test_a_query_that_the_service_does_not_know(warehouse: Settings, shop: Shop, load: Callable[..., Any]) -> None:
    with pytest.raises(GranaryError, match="the query failed: Cannot query field 'nothing' on type 'Query'"):
        load(warehouse, orders(cursor=None), Query("orders", "{ nothing }", "nothing"))
    assert len(shop.asked) == 1


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ({"data": None}, "the answer is not the agreed JSON: see orders"),
        ({}, "the answer is not the agreed JSON: see data"),
        ([], "the answer is not the agreed JSON: see data"),
        ({"data": {"orders": {"nodes": []}}}, "the answer is not the agreed JSON: see pageInfo.hasNextPage"),
        ({"data": {"orders": {"nodes": [], "pageInfo": {"hasNextPage": True}}}}, "see pageInfo.endCursor"),
        (
            {"data": {"orders": {"nodes": [], "pageInfo": {"hasNextPage": True, "endCursor": None}}}},
            "see pageInfo.endCursor",
        ),
        (
            {"data": {"orders": {"nodes": [], "pageInfo": {"hasNextPage": True, "endCursor": "a"}}}},
            "a cursor came twice",
        ),
        (
            {"errors": [{"message": "no\nsuch\x1b[31m thing", "extensions": {"code": "BAD"}}]},
            r"the query failed: no such \[31m thing \(BAD\)",
        ),
        ({"errors": "x"}, "the query failed: no message"),
        (Reply(b"<html>", 502), "the service answered 502"),
        (Reply(b"<html>"), "the answer is not JSON"),
        (Reply({}, 401), r"the service refuses our password \(401\)"),
        (Reply({}, 400), "the service answered 400"),
        (Reply(b"", 308, {"Location": "/other"}), "the service answered 308"),
    ],
)
def test_answers_that_were_not_agreed(
    warehouse: Settings,
    nothing_landed: Callable[[], bool],
    service: Service,
    load: Callable[..., Any],
    reply: Any,
    words: str,
) -> None:
    service.routes["/graphql"] = lambda _: reply
    with pytest.raises(GranaryError, match=words):
        load(warehouse, orders(), attempts=2, auth=Basic("u", "p"))
    assert nothing_landed()
    assert len(service.asked) <= 2


THROTTLED = {"errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}]}


@pytest.mark.parametrize("limited", [Reply(THROTTLED), Reply({}, 429, {"Retry-After": "0"}), Reply({}, 503)])
def test_limits_are_waited_out(
    warehouse: Settings, service: Service, shop: Shop, load: Callable[..., Any], limited: Reply
) -> None:
    service.routes["/graphql"] = lambda r: limited if r.number < 3 else shop.answer(r)
    assert load(warehouse, orders(), ORDERS).rows_loaded == 7


def test_limits_that_last(warehouse: Settings, service: Service, load: Callable[..., Any]) -> None:
    service.routes["/graphql"] = lambda _: THROTTLED
    with pytest.raises(GranaryError, match=r"still limits our rate after every retry \(THROTTLED\)"):
        load(warehouse, orders(), attempts=3)
    assert len(service.asked) == 3


def test_a_budget_of_cost_is_waited_for(
    warehouse: Settings, service: Service, shop: Shop, load: Callable[..., Any]
) -> None:
    status = {"currentlyAvailable": 40, "restoreRate": 200, "maximumAvailable": 1000}
    cost = {"extensions": {"cost": {"requestedQueryCost": 100, "throttleStatus": status}}}
    times: list[float] = []

    def route(request: Request) -> Any:
        times.append(time.monotonic())
        return THROTTLED | cost if request.number == 1 else shop.answer(request)

    service.routes["/graphql"] = route
    load(warehouse, orders(), ORDERS)
    assert times[1] - times[0] >= (100 - 40) / 200
    status["restoreRate"] = 1
    service.routes["/graphql"] = lambda _: THROTTLED | cost
    with pytest.raises(GranaryError, match="the service asks us to wait 60 s"):
        load(warehouse, orders(), ORDERS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mutation { ship(id: 1) }", "only a query is sent"),
        ("subscription { orders }", "only a query is sent"),
        ("query A { a } mutation B { ship(id: 1) }", "only a query is sent"),
        ("query A { a } query B { b }", "only a query is sent"),
        ("{ orders { id } }", "the query has no variable"),
        ("# $first\n{ orders { id } }", "the query has no variable"),
    ],
)
def test_what_is_no_query_of_ours(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Query("orders", text, "orders", size=("first", 3))


def test_a_field_may_be_called_mutation() -> None:
    Query("orders", 'query($first: Int) { mutation(text: "mutation {") { query } }', "mutation", size=("first", 1))


def test_answers_replace_no_units(warehouse: Settings, shop: Shop, load: Callable[..., Any]) -> None:
    with pytest.raises(GranaryError, match="orders replaces units, and the answers of a query are none"):
        load(warehouse, orders(disposition="replace_unit", cursor=None))
