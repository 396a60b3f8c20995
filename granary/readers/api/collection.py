"""One collection, page after page, with the traps of pagination."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from granary.readers.api.exchange import ADVICE
from granary.readers.api.messages import Call
from granary.readers.api.pages import Got, NotAgreedError, Pagination, dig
from granary.sources import validation
from granary.warehouse.errors import GranaryError
from granary.warehouse.json_text import NotJsonError, decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from granary.readers.api.http import Client
    from granary.readers.api.messages import Answer, Pairs

NO_CONTENT = 204
ENDS = frozenset({400, 404, 410, 416})
"""Answers that services give behind the last page."""


@dataclass(frozen=True)
class Since:
    """How a collection is narrowed to what is new: the parameter, and how it writes the watermark.

    `overlap` is read again before the watermark, for rows that are committed late with an earlier time.
    """

    param: str
    written: Literal["iso", "date", "seconds", "milliseconds", "number"] = "iso"
    overlap: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        """Check how the watermark is written."""
        validation.check(self, f"Since {self.param}", filled=("param",), natural=("overlap",))

    def value(self, watermark: str) -> str:
        """Return the watermark (an instant in ISO 8601, or digits) as the service expects it."""
        if self.written == "number":
            return watermark
        at = datetime.fromisoformat(watermark) - self.overlap
        if self.written == "iso":
            return at.isoformat()
        seconds = at.timestamp()
        return (
            str(at.date()) if self.written == "date" else str(int(seconds * (1 if self.written == "seconds" else 1000)))
        )


@dataclass(frozen=True)
class Parent:
    """The collection per whose rows another one is delivered, as in /orders/{order_id}/items.

    `key` fills the hole in the path; a changed `version` (a time, a revision) means that it is to be read again.
    """

    of: Endpoint
    key: str
    version: str

    def __post_init__(self) -> None:
        """Check the names."""
        validation.check(self, "Parent", filled=("key", "version"))


@dataclass(frozen=True)
class Endpoint:
    """A collection: its path (what `Table.location` says), and how it is read.

    Attributes:
        path: below the API's address; with a hole it is a collection per row of `parent`.
        rows: the dotted path of the list of rows in an answer; "" if the answer is the list.
        pagination: how pages follow each other; None if one answer holds everything.
        since: how it is narrowed to what is new, for tables with a cursor.
        parent: what fills the hole in the path.
        params: parameters that every request has.
        total: the dotted path of the number of all rows, which must not change while they are read, and must be right.
            For collections that are not always in motion: a row deleted from a page that was read moves another one
            off the page that is read next.
        ends: the answers (such as 404) by which the service says that there is no further page. A 204 always says so.
            They say nothing of the first page, for a mistyped path is answered alike, unless the path has a hole.
        conditional: the validator (ETag, Last-Modified) of the first page stands for the whole collection. That of
            a collection of one page does so by nature.
    """

    path: str
    rows: str = "data"
    pagination: Pagination | None = None
    since: Since | None = None
    parent: Parent | None = None
    params: Pairs = field(default=(), repr=False)
    total: str | None = None
    ends: tuple[int, ...] = ()
    conditional: bool = False

    def __post_init__(self) -> None:
        """Check that a hole is filled, and that what ends a collection is not a failure."""
        validation.check(self, f"Endpoint {self.path}", filled=("total",))
        if not set(self.ends) <= ENDS:
            raise ValueError(f"{self.path}: pages end with {', '.join(map(str, sorted(ENDS)))}, not with {self.ends}")
        if ("{" in self.path) != (self.parent is not None):
            raise ValueError(f"{self.path}: a hole in a path and a parent that fills it go together")

    @property
    def validated(self) -> bool:
        """Whether the validator of its first answer is that of the whole collection."""
        return self.conditional or self.pagination is None

    def call(self, client: Client, path: str, params: Pairs = (), headers: Pairs = ()) -> Call:
        """Return the call for the first page."""
        start = self.pagination.start() if self.pagination else ()
        return Call(client.api.at(path), (*self.params, *params, *start), headers)


def pages(
    client: Client, endpoint: Endpoint, call: Call, *, unique: bool, first: Answer | None = None
) -> Iterator[list[Any]]:
    """Yield the rows of each page.

    Args:
        client: the API's.
        endpoint: how the collection is read.
        call: the call for the first page.
        unique: rows have keys, so two pages that begin and end alike are one page twice.
        first: the answer to that call, if it is there already.

    Raises:
        GranaryError: the service fails, answers with another shape than agreed, its pages form a loop or never
            end, or the collection changes its length while it is read.
    """
    api, name = client.api, call.where
    fixed = call.params[: len(call.params) - len(endpoint.pagination.start())] if endpoint.pagination else call.params
    asked = {(call.url, call.params)}
    watch, count, number = Watch(unique), 0, 0
    announced: list[int] = []
    while True:
        number += 1
        call = replace(call, part=f"page {number}" if endpoint.pagination else "")
        where = call.where
        ends = endpoint.ends if number > 1 or endpoint.parent else ()
        answer, first = first or client.ask(call, ends), None
        if answer.status == NO_CONTENT or answer.status in ends:
            _complete(endpoint, announced, count, name)
            return
        try:
            body = decoded(answer, where)
            rows = dig(body, endpoint.rows)
            if not isinstance(rows, list):
                raise NotAgreedError(endpoint.rows)
            count += len(rows)
            total = _number(dig(body, endpoint.total), endpoint.total) if endpoint.total else None
            got = Got(number, rows, count, total, body, answer.headers)
            following = endpoint.pagination.follow(got) if endpoint.pagination else None
        except NotAgreedError as missing:
            raise GranaryError(f"the answer is not the agreed JSON: see {missing}", where, ADVICE) from None
        announced += [] if total is None else [total]
        if following is None:
            _complete(endpoint, announced, count, name)
        what = "link" if isinstance(following, str) else "page token"
        if isinstance(following, str):
            call = Call(client.link(answer.url, following, where))
        elif following is not None:
            call = Call(call.url, (*fixed, *following))
        if following is not None and (call.url, call.params) in asked:
            raise GranaryError(f"the pages form a loop: a {what} came twice", where, ADVICE)
        watch.see(rows, where)
        yield rows
        if following is None:
            return
        if number >= api.max_pages:
            raise GranaryError(f"the collection has more than {api.max_pages:,} pages", where, "raise max_pages")
        asked.add((call.url, call.params))


def _complete(endpoint: Endpoint, announced: Sequence[int], count: int, where: str) -> None:
    """Check that as many rows have come as were announced, page by page."""
    if not announced or count == announced[0]:
        return
    if announced[-1] == announced[0] > count:
        raise GranaryError(
            f"the service announces {announced[0]:,} rows ({endpoint.total}) and gives {count:,}",
            where,
            "if there are further pages, declare its pagination; if it counts rows that this login may not see,"
            f" take total={endpoint.total!r} out of its Endpoint",
        )
    raise GranaryError(
        f"the collection changed while it was read: {announced[0]:,} rows were announced, {count:,} have come",
        where,
        ADVICE,
    )


class Watch:
    """Notices a page that was there before."""

    def __init__(self, unique: bool) -> None:
        self.unique = unique
        self.previous: list[Any] = []
        self.ends: set[int] = set()

    def see(self, rows: list[Any], where: str) -> None:
        """Remember a page, which came from `where`.

        Rows without keys may repeat, and so may a page of one such row; a longer page hardly, right after itself.

        Raises:
            GranaryError: it is a page again.
        """
        ends = hash(repr((len(rows), rows[0], rows[-1]))) if rows else 0
        if rows and ((self.unique and ends in self.ends) or (len(rows) > 1 and rows == self.previous)):
            raise GranaryError("the pages form a loop: a page came twice", where, ADVICE)
        self.ends.add(ends)
        self.previous = rows


def decoded(answer: Answer, where: str) -> Any:
    """Return an answer's JSON.

    Raises:
        GranaryError: it is none.
    """
    try:
        return decode(answer.body)
    except NotJsonError as error:
        raise GranaryError(f"the answer {error}", where, ADVICE) from None


def _number(value: Any, path: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise NotAgreedError(path)
    return value
