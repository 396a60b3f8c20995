"""An unknown API: where the rows are and how the pages go on, found out by asking."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from granary.readers.api.pages import Cursor, LinkHeader, NextLink, Offset, Page
from granary.readers.api.probe import probe
from granary.readers.api.spec import ApiKey
from granary.warehouse.errors import GranaryError
from tests.python.engine.apis.conftest import Reply, Request, Service

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = [{"id": n, "name": f"item {n}"} for n in range(1, 8)]
"""Seven rows, three a page."""


def part(first: int) -> list[dict[str, Any]]:
    return ROWS[first : first + 3]


def at(request: Request, name: str, default: int = 0) -> int:
    return int(request.query.get(name, default))


def by_header(request: Request) -> Reply:
    n = at(request, "page", 1)
    link = f'<{request.path}?page={n - 1}>; rel="prev", <{request.path}?page={n + 1}>; rel="next"'
    return Reply(part(3 * n - 3), headers={"Link": link} if n < 3 else {})


SHAPES: list[tuple[Callable[[Request], Any], str, object, str | None]] = [
    (by_header, "", LinkHeader(), None),
    (
        lambda r: {"results": part(at(r, "o")), "next": f"/items?o={at(r, 'o') + 3}" if at(r, "o") < 6 else None},
        "results",
        NextLink("next"),
        None,
    ),
    (
        lambda r: {"value": part(at(r, "o")), "@odata.nextLink": f"/items?o={at(r, 'o') + 3}"},
        "value",
        NextLink("@odata.nextLink"),
        None,
    ),
    (
        lambda r: {"data": part(at(r, "page_token")), "next_page_token": str(at(r, "page_token") + 3)},
        "data",
        Cursor("next_page_token", "page_token"),
        None,
    ),
    (
        lambda r: {"ok": True, "items": part(at(r, "cursor")), "meta": {"next_cursor": str(at(r, "cursor") + 3)}},
        "items",
        Cursor("meta.next_cursor", "cursor"),
        None,
    ),
    (
        lambda r: {"data": part(at(r, "starting_after")), "has_more": at(r, "starting_after") < 4},
        "data",
        Cursor("-1.id", "starting_after", more="has_more"),
        None,
    ),
    (
        lambda r: {"data": part(3 * at(r, "page", 1) - 3), "meta": {"total": 7, "total_pages": 3}},
        "data",
        Page(first=1, pages="meta.total_pages"),
        "meta.total",
    ),
    (lambda r: {"data": part(3 * at(r, "page"))}, "data", Page(first=0), None),
    (lambda r: {"response": {"rows": part(at(r, "offset"))}}, "response.rows", Offset("offset", None), None),
    (lambda r: {"rows": part(at(r, "skip"))}, "rows", Offset("skip", None), None),
]


@pytest.mark.parametrize(("route", "rows", "pagination", "total"), SHAPES)
def test_the_way_of_the_pages_is_found(
    service: Service, route: Callable[[Request], Any], rows: str, pagination: object, total: str | None
) -> None:
    service.routes["/items"] = route
    shape = probe(f"{service.url}/items")
    assert (shape.rows, shape.pagination, shape.total) == (rows, pagination, total)
    assert (shape.base, shape.path) == (service.url, "/items")
    assert [row["id"] for row in shape.sample] == [1, 2, 3, 4, 5, 6]
    assert len(service.asked) <= 12
    assert eval(repr(shape.pagination)) == pagination  # what add-source writes into a module


def test_a_collection_of_one_page(service: Service) -> None:
    service.routes["/items"] = lambda _: Reply({"data": ROWS, "count": 7}, headers={"ETag": '"1"'})
    shape = probe(f"{service.url}/items?kind=a&page=1")
    assert (shape.rows, shape.pagination, shape.total, shape.validated) == ("data", None, "count", True)
    assert shape.path == "/items?kind=a"
    assert len(shape.sample) == 7


def test_a_cursor_that_has_ended_is_still_one(service: Service) -> None:
    service.routes["/items"] = lambda _: {"data": ROWS, "next_page_token": None}
    assert probe(f"{service.url}/items").pagination == Cursor("next_page_token", "page_token")


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        ({"total_pages": 3}, "total_pages is 3"),
        ({"meta": {"pages": 3}}, "meta.pages is 3"),
        ({"has_more": True}, "has_more is true"),
        ({"has_more": True, "next_cursor": None}, "has_more is true"),
    ],
)
def test_a_first_page_is_not_taken_for_all(service: Service, beside: dict[str, Any], words: str) -> None:
    """The second page fails, or is asked for in a way that nobody knows."""
    service.routes["/items"] = lambda r: {"data": part(0), **beside} if at(r, "page", 1) == 1 else {"error": "x"}
    with pytest.raises(GranaryError, match=re.escape(words)):
        probe(service.url + "/items")


def test_the_pages_of_a_book_are_no_pages_of_rows(service: Service) -> None:
    service.routes["/items"] = lambda _: {"title": "A book", "pages": 320, "chapters": part(0)}
    shape = probe(service.url + "/items")
    assert (shape.rows, shape.pagination, len(shape.sample)) == ("chapters", None, 3)


def test_the_key_is_sent(service: Service) -> None:
    service.routes["/items"] = lambda r: ROWS if r.headers.get("X-Api-Key") == "right" else Reply({}, 401)
    assert probe(f"{service.url}/items", auth=ApiKey("X-Api-Key", "right")).rows == ""
    with pytest.raises(GranaryError, match=r"the service refuses our key \(401\)") as caught:
        probe(f"{service.url}/items", auth=ApiKey("X-Api-Key", "wrong-secret"))
    assert "wrong-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "the answer is not JSON"),
        ({"a": {"b": 1}}, "the answer has no list of objects"),
        ([1, 2], "the answer has no list of objects"),
    ],
)
def test_what_is_no_collection(service: Service, body: object, words: str) -> None:
    service.routes["/items"] = lambda _: body
    with pytest.raises(GranaryError, match=words):
        probe(f"{service.url}/items")


@pytest.mark.parametrize("url", ["ftp://host/x", "items.csv", "http://user:pass@127.0.0.1/x", "http://a\\@b/x"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(GranaryError, match="that is not an API") as caught:
        probe(url)
    assert "pass@" not in str(caught.value)


def test_a_link_to_elsewhere_is_not_followed(service: Service, make_service: Callable[[], Service]) -> None:
    other = make_service()
    service.routes["/items"] = lambda _: {"data": ROWS, "next": f"{other.url}/items"}
    assert probe(f"{service.url}/items", auth=ApiKey("X-Api-Key", "k")).pagination == NextLink("next")
    assert other.asked == []
