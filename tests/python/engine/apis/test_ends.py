"""How a collection ends: with a 204, with what is declared, and with nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from granary.load.api import load_table
from granary.readers.rest import Api, Endpoint, Offset, Page, Parent, RestReader
from granary.warehouse.errors import GranaryError
from tests.python.engine.apis.conftest import Reply, Request, Service
from tests.python.engine.apis.test_collections import ALL, LANDED, at, items, load, part

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings
    from tests.python.engine.apis.test_collections import Declare, Rows


def paged(end: Reply) -> Any:
    """Return a route with three pages, and an answer of no rows behind them."""

    def route(request: Request) -> Any:
        rows = part(3 * at(request, "page", 1) - 3)
        return {"data": rows} if rows else end

    return route


def test_no_content_is_an_end(warehouse: Settings, service: Service, source: Declare, rows: Rows) -> None:
    service.routes["/items"] = paged(Reply(status=204))
    assert load(warehouse, service, source, Endpoint("/items", pagination=Page())).rows_loaded == 7
    assert rows(LANDED) == ALL
    assert [query["page"] for query in service.paths("/items")] == ["1", "2", "3", "4"]


def test_no_content_at_once_is_an_empty_collection(warehouse: Settings, service: Service, source: Declare) -> None:
    service.routes["/items"] = lambda _: Reply(status=204)
    for endpoint in (Endpoint("/items", pagination=Offset()), Endpoint("/items")):
        assert load(warehouse, service, source, endpoint, items(floor=0)).rows_read == 0


@pytest.mark.parametrize("status", [400, 404, 410, 416])
def test_a_declared_answer_is_an_end(
    warehouse: Settings, service: Service, source: Declare, rows: Rows, status: int
) -> None:
    service.routes["/items"] = paged(Reply({"error": "no such page"}, status))
    with pytest.raises(GranaryError, match=rf"the service answered {status} \(http://127.0.0.1:\d+/items, page 4\)"):
        load(warehouse, service, source, Endpoint("/items", pagination=Page()))
    load(warehouse, service, source, Endpoint("/items", pagination=Page(), ends=(status,)))
    assert rows(LANDED) == ALL


def test_a_declared_answer_to_the_first_page_is_a_mistyped_path(
    warehouse: Settings, service: Service, source: Declare
) -> None:
    with pytest.raises(GranaryError, match=r"the service answered 404 \(http://127.0.0.1:\d+/items, page 1\)"):
        load(warehouse, service, source, Endpoint("/items", pagination=Page(), ends=(404,)))


def test_a_parent_without_children_may_have_no_path(
    warehouse: Settings, service: Service, source: Declare, rows: Rows
) -> None:
    parents = Endpoint("/parents")
    children = Endpoint("/parents/{id}/items", parent=Parent(parents, "id", "version"), pagination=Page(), ends=(404,))
    service.routes["/parents"] = lambda _: {"data": [{"id": 1, "version": 1}, {"id": 2, "version": 1}]}
    service.routes["/parents/2/items"] = paged(Reply({}, 404))
    table = items(disposition="replace_unit", key=(), max_refused=0.0)
    table = type(table)(**{**table.__dict__, "location": children.path})
    source(lambda: RestReader(Api(service.url), parents, children), table)
    assert load_table(warehouse, "shop", "items").rows_loaded == 7
    assert rows(LANDED) == ALL


def test_an_end_before_the_announced_rows_is_none(warehouse: Settings, service: Service, source: Declare) -> None:
    service.routes["/items"] = lambda r: {"data": part(0), "total": 7} if at(r, "page") == 1 else Reply(status=204)
    with pytest.raises(GranaryError, match=r"the service announces 7 rows \(total\) and gives 3 "):
        load(warehouse, service, source, Endpoint("/items", pagination=Page(), total="total"))


@pytest.mark.parametrize("status", [200, 401, 403, 429, 500, 503])
def test_a_failure_is_no_end(status: int) -> None:
    with pytest.raises(ValueError, match="/items: pages end with 400, 404, 410, 416"):
        Endpoint("/items", ends=(status,))
