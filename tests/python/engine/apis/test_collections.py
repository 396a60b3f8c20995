"""Collections through the whole path into raw tables: pages of every kind, and the traps of each."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.load.api import load_table
from granary.readers.rest import (
    Api,
    ApiKey,
    Cursor,
    Endpoint,
    LinkHeader,
    NextLink,
    Offset,
    Page,
    Parent,
    RestReader,
    Since,
)
from granary.sources.spec import Column, Table
from granary.warehouse.errors import GranaryError
from tests.python.engine.apis.conftest import Reply, Request, Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.readers.api.pages import Pagination
    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]
    Declare = Callable[..., None]

ITEMS = [{"id": n, "name": f"item {n}"} for n in range(1, 8)]
"""Seven rows; the services here give three a page, whatever they are asked for."""

ID = Column("id", pa.int64(), "Key.", nullable=False)
NAME = Column("name", pa.string(), "Name.")
LANDED = "select id, name from raw_shop.items order by 1"
ALL = [(n, f"item {n}") for n in range(1, 8)]


def items(*more: Column, **options: Any) -> Table:
    settings: dict[str, Any] = {"disposition": "replace", "key": ("id",), "freshness": timedelta(days=1)} | options
    return Table("items", "Items.", "/items", (ID, NAME, *more), **settings)


def part(first: int) -> list[dict[str, Any]]:
    return ITEMS[first : first + 3]


def at(request: Request, name: str, default: int = 0) -> int:
    return int(request.query.get(name, default))


def load(
    warehouse: Settings, service: Service, source: Declare, endpoint: Endpoint, table: Table | None = None, **api: Any
) -> Any:
    source(lambda: RestReader(Api(service.url, **api), endpoint), table or items())
    return load_table(warehouse, "shop", "items")


def header(request: Request) -> Reply:
    n = at(request, "page", 1)
    link = f'</items?page={n + 1}>; rel="next", </items?page=1>; rel="first"'
    return Reply({"data": part(3 * n - 3)}, headers={"Link": link} if n < 3 else {})


WAYS: list[tuple[Pagination, Callable[[Request], Any], int]] = [
    (Page(), lambda r: {"data": part(3 * at(r, "page") - 3)}, 4),  # a short page is no end, an empty one is
    (Page(first=0, size=("per_page", 1000)), lambda r: {"data": part(3 * at(r, "page"))}, 4),
    (Page(pages="pages"), lambda r: {"data": part(3 * at(r, "page") - 3), "pages": 3}, 3),
    (Page(more="more"), lambda r: {"data": part(3 * at(r, "page") - 3), "more": at(r, "page") < 3}, 3),
    (Offset(size=("limit", 1000)), lambda r: {"data": part(at(r, "offset"))}, 4),
    (
        Cursor("meta.next", "cursor", size=("limit", 3)),
        lambda r: {"data": part(at(r, "cursor")), "meta": {"next": at(r, "cursor") + 3 if at(r, "cursor") < 6 else ""}},
        3,
    ),
    (
        Cursor("next", "cursor", optional=True),
        lambda r: {"data": part(at(r, "cursor"))} | ({} if at(r, "cursor") == 6 else {"next": at(r, "cursor") + 3}),
        3,
    ),
    (
        Cursor("-1.id", "starting_after", more="has_more"),
        lambda r: {"data": part(at(r, "starting_after")), "has_more": at(r, "starting_after") < 6},
        3,
    ),
    (LinkHeader(), header, 3),
    (
        NextLink("links.next"),
        lambda r: {"data": part(at(r, "o")), "links": {"next": f"?o={at(r, 'o') + 3}" if at(r, "o") < 6 else None}},
        3,
    ),
]


@pytest.mark.parametrize(("pagination", "route", "requests"), WAYS, ids=lambda way: type(way).__name__)
def test_every_page_is_read(
    warehouse: Settings,
    service: Service,
    source: Declare,
    rows: Rows,
    pagination: Pagination,
    route: Callable[[Request], Any],
    requests: int,
) -> None:
    service.routes["/items"] = route
    result = load(warehouse, service, source, Endpoint("/items", pagination=pagination))
    assert (result.status, result.rows_read, result.rows_loaded) == ("loaded", 7, 7)
    assert rows(LANDED) == ALL
    assert len(service.asked) == requests


def test_numbers_count_what_came_not_what_was_asked(service: Service, warehouse: Settings, source: Declare) -> None:
    service.routes["/items"] = lambda r: {"data": part(at(r, "offset"))}
    load(warehouse, service, source, Endpoint("/items", pagination=Offset(size=("limit", 1000))))
    assert [query["offset"] for query in service.paths("/items")] == ["0", "3", "6", "7"]


def test_a_list_without_anything_around_it(warehouse: Settings, service: Service, source: Declare, rows: Rows) -> None:
    service.routes["/items"] = lambda _: ITEMS
    load(warehouse, service, source, Endpoint("/items", rows=""))
    assert rows(LANDED) == ALL


# -- traps -------------------------------------------------------------------------------------------------------------


def tokens(*steps: str) -> Callable[[Request], Any]:
    """Return a service whose n-th answer has the rows from 3(n-1) on and the n-th token."""
    return lambda r: {"data": part(3 * ((r.number - 1) % 3)), "next": steps[min(r.number, len(steps)) - 1]}


def linking(*links: str) -> Callable[[Request], Any]:
    return lambda r: {"data": part(3 * (r.number - 1)), "next": links[min(r.number, len(links)) - 1]}


CIRCLES: list[tuple[Pagination, Callable[[Request], Any], str, int]] = [
    (Cursor("next", "c"), tokens("a", "a"), "a page token came twice", 2),
    (Cursor("next", "c"), tokens("a", "b", "a"), "a page token came twice", 3),
    (Cursor("next", "c"), tokens("a", "b", "c", "d", "e"), "a page came twice", 4),
    (Page(), lambda _: {"data": part(0)}, "a page came twice", 2),  # a service that ignores ?page
    (Page(), lambda _: {"data": ITEMS[:1]}, "a page came twice", 2),
    (Offset(), lambda _: {"data": part(0)}, "a page came twice", 2),
    (NextLink("next"), linking("/items?p=2", "/items?p=3", "/items?p=2"), "a link came twice", 3),
    (NextLink("next"), linking("/items"), "a link came twice", 1),
]


@pytest.mark.parametrize(("pagination", "route", "words", "requests"), CIRCLES)
def test_circles_are_noticed(
    warehouse: Settings,
    nothing_landed: Callable[[], bool],
    service: Service,
    source: Declare,
    pagination: Pagination,
    route: Callable[[Request], Any],
    words: str,
    requests: int,
) -> None:
    service.routes["/items"] = route
    with pytest.raises(GranaryError, match=f"the pages form a loop: {words}"):
        load(warehouse, service, source, Endpoint("/items", pagination=pagination))
    assert len(service.asked) == requests
    assert nothing_landed()


def test_pages_without_end_are_limited(warehouse: Settings, service: Service, source: Declare) -> None:
    service.routes["/items"] = lambda r: {"data": [], "next": str(r.number)}
    with pytest.raises(GranaryError, match="the collection has more than 10 pages"):
        load(warehouse, service, source, Endpoint("/items", pagination=Cursor("next", "c")), max_pages=10)
    assert len(service.asked) == 10


def test_rows_that_shift_between_pages_are_noticed(
    service: Service, warehouse: Settings, nothing_landed: Callable[[], bool], source: Declare
) -> None:
    """A row of the first page is deleted before the second one is read: row 4 moves to the first page, unread."""

    def route(request: Request) -> Any:
        now = ITEMS if request.number == 1 else ITEMS[1:]
        return {"data": now[at(request, "offset") :][:3], "total": len(now)}

    service.routes["/items"] = route
    with pytest.raises(GranaryError, match="changed while it was read: 7 rows were announced, 6 have come"):
        load(warehouse, service, source, Endpoint("/items", pagination=Offset(), total="total"))
    assert nothing_landed()


def test_a_wrong_total_is_noticed(
    service: Service, warehouse: Settings, nothing_landed: Callable[[], bool], source: Declare
) -> None:
    service.routes["/items"] = lambda r: {"data": part(at(r, "offset")), "total": 8}
    with pytest.raises(GranaryError, match=r"announces 8 rows \(total\) and gives 7") as caught:
        load(warehouse, service, source, Endpoint("/items", pagination=Offset(), total="total"))
    assert "take total='total' out of its Endpoint" in caught.value.todo
    assert nothing_landed()


def test_a_total_of_more_pages_than_are_declared_is_no_change(
    service: Service, warehouse: Settings, nothing_landed: Callable[[], bool], source: Declare
) -> None:
    service.routes["/items"] = lambda _: {"data": ITEMS[:3], "total": 7}
    with pytest.raises(GranaryError, match=r"announces 7 rows \(total\) and gives 3") as caught:
        load(warehouse, service, source, Endpoint("/items", total="total"))
    assert "declare its pagination" in caught.value.todo
    assert nothing_landed()


@pytest.mark.parametrize("pagination", [NextLink("next"), Cursor("next", "cursor")])
def test_a_missing_way_on_is_no_end_unless_it_is_declared_so(
    warehouse: Settings, service: Service, source: Declare, rows: Rows, pagination: NextLink | Cursor
) -> None:
    service.routes["/items"] = lambda _: {"data": ITEMS}
    with pytest.raises(GranaryError, match=r"not the agreed JSON: see next \(http://.*/items, page 1\)"):
        load(warehouse, service, source, Endpoint("/items", pagination=pagination))
    load(warehouse, service, source, Endpoint("/items", pagination=replace(pagination, optional=True)))
    assert rows(LANDED) == ALL


def test_a_total_saves_the_empty_page(warehouse: Settings, service: Service, source: Declare) -> None:
    service.routes["/items"] = lambda r: {"data": part(at(r, "offset")), "total": 7}
    endpoint = Endpoint("/items", pagination=Offset(), total="total")
    assert load(warehouse, service, source, endpoint).rows_loaded == 7
    assert [query["offset"] for query in service.paths("/items")] == ["0", "3", "6"]


@pytest.mark.parametrize("way", ["header", "body"])
def test_a_next_link_to_elsewhere_is_refused(
    warehouse: Settings,
    nothing_landed: Callable[[], bool],
    service: Service,
    make_service: Callable[[], Service],
    source: Declare,
    way: str,
) -> None:
    other = make_service()
    link = f"{other.url}/items?page=2"
    service.routes["/items"] = lambda _: Reply(
        {"data": part(0), "next": link}, headers={"Link": f'<{link}>; rel="next"'}
    )
    pagination: Pagination = LinkHeader() if way == "header" else NextLink("next")
    with pytest.raises(GranaryError, match="our credentials are not sent"):
        load(warehouse, service, source, Endpoint("/items", pagination=pagination), auth=ApiKey("X-Api-Key", "secret"))
    assert other.asked == []
    assert nothing_landed()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "the answer is not JSON"),
        (b'{"data": [{"id": 1', "the answer is not JSON"),
        (b"[" * 5000, "the answer is nested deeper than 64 levels"),
        ([], "the answer is not the agreed JSON: see data"),
        ({"data": {"id": 1}}, "the answer is not the agreed JSON: see data"),
        ({"data": [], "other": None}, "the answer is not the agreed JSON: see meta.next"),
        ({"data": [], "meta": {"next": {}}}, "the answer is not the agreed JSON: see meta.next"),
        ({"data": [], "meta": {"next": True}}, "the answer is not the agreed JSON: see meta.next"),
    ],
)
def test_answers_that_were_not_agreed(
    warehouse: Settings, service: Service, source: Declare, body: object, words: str
) -> None:
    service.routes["/items"] = lambda _: body
    with pytest.raises(GranaryError, match=words):
        load(warehouse, service, source, Endpoint("/items", pagination=Cursor("meta.next", "c")))


def test_a_row_that_does_not_fit_is_kept(warehouse: Settings, service: Service, source: Declare, rows: Rows) -> None:
    service.routes["/items"] = lambda _: {"data": [*ITEMS, {"id": "eight", "name": "x"}, 9]}
    result = load(warehouse, service, source, Endpoint("/items"), items(max_refused=0.5))
    assert (result.rows_read, result.rows_loaded, result.rows_quarantined) == (9, 7, 2)
    assert rows("select row_number, column_name, reason, payload from ops.quarantine order by 1") == [
        (8, "id", "is not a valid int64", {"id": "eight", "name": "x"}),
        (9, "", "is not a JSON object", {"row": 9}),
    ]


def test_a_new_column_and_one_that_is_renamed(
    warehouse: Settings, service: Service, source: Declare, rows: Rows
) -> None:
    price = Column("price", pa.decimal128(8, 2), "Price.", aliases=("cost",))
    service.routes["/items"] = lambda _: {"data": [{"id": 1, "name": "a", "cost": 1.1, "tags": ["x", {"y": 1}]}]}
    load(warehouse, service, source, Endpoint("/items"), items(price))
    assert rows("select id, price::text, tags from raw_shop.items") == [(1, "1.10", '["x",{"y":1}]')]
    assert rows("select column_name, change from ops.schema_changes order by 1") == [
        ("price", "renamed"),
        ("tags", "added"),
    ]


def test_a_column_that_only_a_later_page_has(
    warehouse: Settings, service: Service, source: Declare, rows: Rows
) -> None:
    """The COPY is open by then: the load begins again, with the column, and nothing lands twice."""
    service.routes["/items"] = lambda r: {
        "data": [row | ({"colour": "red"} if row["id"] == 7 else {}) for row in part(at(r, "offset"))]
    }
    result = load(warehouse, service, source, Endpoint("/items", pagination=Offset()))
    assert (result.rows_read, result.rows_loaded) == (7, 7)
    assert rows("select id, colour from raw_shop.items order by 1") == [
        (n, None if n < 7 else "red") for n in range(1, 8)
    ]


def test_a_service_that_fails_in_the_middle(
    warehouse: Settings, service: Service, source: Declare, rows: Rows, nothing_landed: Callable[[], bool]
) -> None:
    service.routes["/items"] = lambda r: Reply({}, 500) if r.query["offset"] == "3" else {"data": part(at(r, "offset"))}
    endpoint = Endpoint("/items", pagination=Offset())
    with pytest.raises(GranaryError, match="the service answered 500"):
        load(warehouse, service, source, endpoint, attempts=2)
    assert nothing_landed()
    assert rows("select status, rows_loaded from ops.load_audit") == [("failed", 0)]
    service.routes["/items"] = lambda r: {"data": part(at(r, "offset"))}
    assert load(warehouse, service, source, endpoint).rows_loaded == 7
    assert rows(LANDED) == ALL


def test_a_column_that_vanished_stops_the_load(
    warehouse: Settings, service: Service, source: Declare, rows: Rows
) -> None:
    service.routes["/items"] = lambda _: {"data": [{"id": n} for n in range(30)]}
    with pytest.raises(GranaryError, match="column name is missing: none of 30 rows has it"):
        load(warehouse, service, source, Endpoint("/items"))
    assert rows("select column_name, change from ops.schema_changes") == [("name", "missing")]


# -- only what is new --------------------------------------------------------------------------------------------------

CHANGED = Column("changed_at", pa.timestamp("us", tz="UTC"), "When it changed.", nullable=False)
NOON = datetime(2017, 3, 6, 12, 0, 0, 500_000, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("since", "sent"),
    [
        (Since("since"), "2017-03-06T12:00:00.500000+00:00"),
        (Since("since", overlap=timedelta(minutes=5)), "2017-03-06T11:55:00.500000+00:00"),
        (Since("since", "seconds"), "1488801600"),
        (Since("since", "milliseconds"), "1488801600500"),
        (Since("since", "date", timedelta(days=1)), "2017-03-05"),
    ],
)
def test_the_watermark_narrows_the_next_load(
    warehouse: Settings, service: Service, source: Declare, rows: Rows, since: Since, sent: str
) -> None:
    first = [{"id": 1, "name": "a", "changed_at": "2017-03-06T12:00:00.5Z"}]
    later = [*first, {"id": 2, "name": "b", "changed_at": "2017-03-07T00:00:00Z"}]
    service.routes["/items"] = lambda r: {"data": later if "since" in r.query else first}
    table = items(CHANGED, disposition="merge", cursor="changed_at")
    endpoint = Endpoint("/items", since=since, params=(("kind", "a b"),))
    assert load(warehouse, service, source, endpoint, table).watermark_after == NOON.isoformat()
    second = load(warehouse, service, source, endpoint, table)
    assert (second.rows_read, second.watermark_after) == (2, "2017-03-07T00:00:00+00:00")
    assert service.paths("/items") == [{"kind": "a b"}, {"kind": "a b", "since": sent}]
    loads = rows("select id, _load_id from raw_shop.items order by 1")
    assert loads == [(1, first_id := loads[0][1]), (2, second.load_ids[0])]
    assert first_id != second.load_ids[0]  # the row that came again has not changed


def test_a_cursor_may_be_a_number(warehouse: Settings, service: Service, source: Declare) -> None:
    service.routes["/items"] = lambda r: {"data": [i for i in ITEMS if i["id"] > at(r, "after_id")]}  # type: ignore[operator]
    endpoint, table = Endpoint("/items", since=Since("after_id", "number")), items(disposition="merge", cursor="id")
    assert load(warehouse, service, source, endpoint, table).watermark_after == "7"
    assert load(warehouse, service, source, endpoint, table).rows_read == 0
    assert service.paths("/items") == [{}, {"after_id": "7"}]


# -- one collection per parent -----------------------------------------------------------------------------------------


def parts() -> Table:
    return Table("items", "Parts.", "/items/{id}/parts", (ID, NAME), "replace_unit", timedelta(days=1))


PARTS = Endpoint("/items/{id}/parts", rows="", parent=Parent(Endpoint("/items"), "id", "version"))


def test_parents_that_changed_are_read_again(
    warehouse: Settings, service: Service, source: Declare, rows: Rows
) -> None:
    versions = {"a/b": 1, "c": 1}
    service.routes["/items"] = lambda _: {"data": [{"id": key, "version": v} for key, v in versions.items()]}
    service.routes["/items/a%2Fb/parts"] = lambda r: [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}][: 3 - r.number]
    service.routes["/items/c/parts"] = lambda _: [{"id": 3, "name": "z"}]
    assert load(warehouse, service, source, PARTS, parts()).rows_loaded == 3
    assert load(warehouse, service, source, PARTS, parts()).status == "unchanged"
    versions["a/b"] = 2
    again = load(warehouse, service, source, PARTS, parts())
    assert (again.units_loaded, again.rows_loaded, again.rows_deleted) == (("/items/a%2Fb/parts",), 1, 2)
    assert rows(LANDED) == [(1, "x"), (3, "z")]


def test_a_parent_that_comes_twice_is_read_once(
    warehouse: Settings, service: Service, source: Declare, rows: Rows
) -> None:
    """While the parents are read, one moves to the next page."""
    parents = [{"id": "a", "version": 1}, {"id": "b", "version": 1}]
    service.routes["/items"] = lambda r: {"data": parents[at(r, "offset") - r.number + 1 :][:2] if r.number < 3 else []}
    service.routes["/items/a/parts"] = lambda _: [{"id": 1, "name": "x"}]
    service.routes["/items/b/parts"] = lambda _: [{"id": 2, "name": "y"}]
    by_offset = Endpoint("/items", pagination=Offset())
    endpoint = Endpoint("/items/{id}/parts", rows="", parent=Parent(by_offset, "id", "version"))
    assert load(warehouse, service, source, endpoint, parts()).rows_loaded == 2
    assert service.paths("/items")[1] == {"offset": "2", "limit": "1000"}  # where b came again
    assert rows(LANDED) == [(1, "x"), (2, "y")]


@pytest.mark.parametrize(
    ("parent", "words"),
    [
        ({"id": "..", "version": 1}, "a parent's id would lead to another path"),
        ({"id": "", "version": 1}, "a parent's id would lead to another path"),
        ({"id": 1}, "a row has no version"),
        ({"id": 1, "version": None}, "a row has no version"),
        ({"id": [1], "version": 1}, "a row has no id"),
        (5, "a row has no id"),
    ],
)
def test_parents_that_cannot_be_followed(
    warehouse: Settings, service: Service, source: Declare, parent: object, words: str
) -> None:
    service.routes["/items"] = lambda _: {"data": [parent]}
    with pytest.raises(GranaryError, match=words):
        load(warehouse, service, source, PARTS, parts())
    assert len(service.asked) == 1


# -- whole collections, only if they changed ---------------------------------------------------------------------------


class Versioned:
    """A service with a validator: answers 304 to who has the current version."""

    def __init__(self, service: Service) -> None:
        self.data, self.version = ITEMS[:3], 1
        self.answers: list[int] = []
        service.routes["/items"] = self.route

    def route(self, request: Request) -> Reply:
        tag = f'"v{self.version}"'
        unchanged = request.headers.get("If-None-Match") == tag
        self.answers.append(304 if unchanged else 200)
        more = {"next": "more"} if "c" not in request.query else {"next": None}
        return Reply({"data": self.data} | more, 304 if unchanged else 200, {"ETag": tag})


@pytest.mark.parametrize("disposition", ["replace", "replace_unit"])
def test_an_unchanged_collection_is_not_read_again(
    warehouse: Settings, service: Service, source: Declare, rows: Rows, disposition: Any
) -> None:
    api, endpoint, table = Versioned(service), Endpoint("/items"), items(disposition=disposition, floor=0)
    assert load(warehouse, service, source, endpoint, table).rows_loaded == 3
    assert rows("select fingerprint, version from ops.load_audit") == [('etag "v1"', 'etag "v1"')]
    assert load(warehouse, service, source, endpoint, table).status == "unchanged"
    api.data, api.version = ITEMS[1:4], 2
    load(warehouse, service, source, endpoint, table)
    assert rows(LANDED) == ALL[1:4]
    assert load(warehouse, service, source, endpoint, table).status == "unchanged"
    assert api.answers == [200, 304, 200, 304]  # one request a load
    assert load_table(warehouse, "shop", "items", full_refresh=True).rows_read == 3
    assert api.answers[-1] == 200


def test_a_date_is_a_validator_too(warehouse: Settings, service: Service, source: Declare) -> None:
    modified = "Mon, 06 Mar 2017 12:00:00 GMT"

    def route(request: Request) -> Reply:
        same = request.headers.get("If-Modified-Since") == modified
        return Reply({"data": ITEMS}, 304 if same else 200, {"Last-Modified": modified})

    service.routes["/items"] = route
    assert load(warehouse, service, source, Endpoint("/items")).rows_loaded == 7
    assert load(warehouse, service, source, Endpoint("/items")).status == "unchanged"
    assert len(service.asked) == 2


def test_the_validator_of_a_first_page_is_not_that_of_the_others(
    warehouse: Settings, service: Service, source: Declare, rows: Rows
) -> None:
    """The second page changes, and the first one does not."""
    last = [{"id": 9, "name": "old"}]

    def route(request: Request) -> Reply:
        second = request.query.get("c") == "2"
        body = {"data": last if second else ITEMS[:3], "next": None if second else "2"}
        return Reply(body, headers={} if second else {"ETag": '"1"'})

    service.routes["/items"] = route
    endpoint = Endpoint("/items", pagination=Cursor("next", "c"))
    load(warehouse, service, source, endpoint)
    last[0] = {"id": 9, "name": "new"}
    load(warehouse, service, source, endpoint)
    assert rows("select name from raw_shop.items where id = 9") == [("new",)]
    assert not any("If-None-Match" in request.headers for request in service.asked)


def test_unless_it_is_declared_so(warehouse: Settings, service: Service, source: Declare, rows: Rows) -> None:
    api = Versioned(service)
    api.data = ITEMS[:1]
    service.routes["/items"] = lambda r: Reply({"data": ITEMS[3:], "next": None}) if "c" in r.query else api.route(r)
    endpoint = Endpoint("/items", pagination=Cursor("next", "c"), conditional=True)
    assert load(warehouse, service, source, endpoint).rows_loaded == 5
    assert load(warehouse, service, source, endpoint).status == "unchanged"
    assert len(service.asked) == 3


def test_rows_without_keys_and_without_a_validator(
    warehouse: Settings, service: Service, source: Declare, rows: Rows
) -> None:
    data = [{"id": 1, "name": "a"}, {"id": 1, "name": "a"}, {"id": 2, "name": None}]
    service.routes["/items"] = lambda r: {"data": data if "c" not in r.query else [], "next": None}
    endpoint = Endpoint("/items", pagination=Cursor("next", "c"))
    table = items(disposition="replace_unit", key=())
    assert load(warehouse, service, source, endpoint, table).rows_loaded == 3
    assert load(warehouse, service, source, endpoint, table).status == "unchanged"
    data.pop()
    assert load(warehouse, service, source, endpoint, table).rows_deleted == 3
    assert rows("select id, name, _row from raw_shop.items order by 3") == [(1, "a", 1), (1, "a", 2)]


def test_a_path_that_nobody_declared(warehouse: Settings, service: Service, source: Declare) -> None:
    with pytest.raises(GranaryError, match="nothing is declared for /items"):
        load(warehouse, service, source, Endpoint("/other"))


@pytest.mark.parametrize("endpoint", [("/a/{id}", None), ("/a", Parent(Endpoint("/b"), "id", "v"))])
def test_a_hole_and_a_parent_go_together(endpoint: tuple[str, Parent | None]) -> None:
    with pytest.raises(ValueError, match="a hole in a path and a parent that fills it go together"):
        Endpoint(endpoint[0], parent=endpoint[1])
