"""Looks at an unknown collection: where its rows are, how its pages follow each other, and what they look like."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from granary.readers.api.http import Client
from granary.readers.api.messages import Answer, Call
from granary.readers.api.pages import Cursor, Got, LinkHeader, NextLink, Offset, Page, Pagination, dig
from granary.readers.api.spec import Api
from granary.warehouse.errors import GranaryError
from granary.warehouse.json_text import NotJsonError, decode, flaw_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.readers.api.spec import Auth

LINKS = ("next", "next_url", "next_link", "nextLink", "next_page", "next_page_url", "@odata.nextLink")
TOKENS = ("next_page_token", "nextPageToken", "next_cursor", "nextCursor", "next_token", "nextToken", "continuation",
          "next_page", "next", "cursor", "after")  # fmt: skip
TOTALS = ("total", "total_count", "totalCount", "count", "total_results", "totalResults", "total_rows")
PAGE_COUNTS = ("total_pages", "totalPages", "pages", "page_count", "last_page")
MORE = ("has_more", "hasMore", "has_next", "hasNext", "has_next_page", "hasNextPage")
DEPTH = 4


@dataclass(frozen=True)
class Shape:
    """What was found.

    Attributes:
        url: the collection without the parameters that turn its pages; split it with `base` and `path`.
        rows: the dotted path of the list of rows, "" if the answer is the list.
        pagination: how pages follow each other, None for a collection of one page. Its repr is Python source.
        total: the dotted path of the number of all rows, if the answer tells it.
        validated: whether answers have an ETag or a Last-Modified.
        sample: rows of the first page, and of the second if there is one.
    """

    url: str
    rows: str
    pagination: Pagination | None
    total: str | None
    validated: bool
    sample: tuple[dict[str, Any], ...]

    @property
    def base(self) -> str:
        """The service's address, for `Api`."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def path(self) -> str:
        """The collection's path, with the parameters that belong to it, for `Table.location`."""
        return self.url[len(self.base) :] or "/"


def probe(url: str, *, auth: Auth | None = None, timeout: float = 10.0) -> Shape:
    """Fetch the first pages of a collection and find out its shape; at most a dozen requests, all GET.

    Args:
        url: the collection's address, with any parameters.
        auth: the credentials, if it needs any.
        timeout: seconds without a byte.

    Raises:
        GranaryError: the address is none, the service does not answer or denies access, or has no list of objects.
    """
    parts = urlsplit(url)
    try:
        client = Client(Api(f"{parts.scheme}://{parts.netloc}", auth, attempts=2, timeout=timeout))
    except ValueError as error:
        raise GranaryError(f"that is not an API: {error}", "the address", "give it as https://host/path") from None
    turning = {"page", "offset", "cursor", "page_token", "pageToken", "after", "starting_after"}
    params = tuple(pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] not in turning)
    bare = urlunsplit((parts.scheme, parts.netloc, parts.path or "/", "", ""))
    return _Probe(client, bare, params).look()


class _Probe:
    """One look at one collection."""

    def __init__(self, client: Client, url: str, params: tuple[tuple[str, str], ...]) -> None:
        self.client, self.url, self.params = client, url, params
        self.first = client.ask(Call(url, params))
        self.body = _json(self.first, url)
        self.path, self.rows = find_rows(self.body, url)

    def look(self) -> Shape:
        names = dict(_scalars(self.body, self.path))
        total = next((p for p, v in names.items() if _last(p) in TOTALS and _count(v) and v >= len(self.rows)), None)
        pagination, more = self._pagination(names)
        url = f"{self.url}?{urlencode(self.params)}" if self.params else self.url
        sample = tuple(row for row in [*self.rows, *more] if isinstance(row, dict) and not flaw_in(row))
        validated = any(name in self.first.headers for name in ("ETag", "Last-Modified"))
        # A total that is smaller than what a collection of several pages has is that of the page.
        total_path = total if total and (pagination is None or names[total] > len(self.rows)) else None
        return Shape(url, self.path, pagination, total_path, validated, sample)

    def _pagination(self, names: dict[str, Any]) -> tuple[Pagination | None, list[Any]]:
        """Return the first way that leads to other rows, and those.

        Else one that the answer declares, though it has ended or leads where we do not follow: reading then fails
        there, which is better than to take the first page for all.

        Raises:
            GranaryError: the answer says that there are more pages, and nothing leads to them.
        """
        ended: Pagination | None = None
        for pagination in self._paginations(names):
            got = Got(1, self.rows, len(self.rows), None, self.body, self.first.headers)
            following = pagination.follow(got)
            rows = self._rows(following) if following else None
            if rows is not None and rows != self.rows:
                return pagination, rows
            declared = (
                isinstance(pagination, NextLink)
                or (isinstance(pagination, Cursor) and not following)
                or isinstance(following, str)
            )
            ended = ended or (pagination if declared else None)
        more = next((f"{path} is {json.dumps(value)}" for path, value in names.items() if _is_more(path, value)), None)
        if more and (ended is None or isinstance(ended, Cursor)):
            raise GranaryError(
                f"the answer says that there are more pages ({more}), and none of the ways known here leads to them",
                self.url,
                "try again if the service is not well; else write its source by hand (`granary guide sources/apis`)",
            )
        return ended, []

    def _paginations(self, names: dict[str, Any]) -> Iterator[Pagination]:
        """Yield what the answer hints at, then what services commonly understand."""
        yield LinkHeader()
        more = next((path for path, value in names.items() if _last(path) in MORE and isinstance(value, bool)), None)
        for path, value in names.items():
            if _last(path) in LINKS and (value is None or _is_link(value)):
                yield NextLink(path)
        for path, value in names.items():
            if _last(path) in TOKENS and not _is_link(value):
                bare = _last(path).removeprefix("next_").removeprefix("next")
                guesses = dict.fromkeys([bare[:1].lower() + bare[1:], _last(path), "cursor", "page_token", "after"])
                yield from (Cursor(path, param) for param in guesses if param)
        if more and self.rows and isinstance(self.rows[-1], dict) and "id" in self.rows[-1]:
            yield from (Cursor("-1.id", param, more=more) for param in ("starting_after", "after"))
        if not self.rows or (more and names[more] is False):
            return
        pages = next((path for path, value in names.items() if _last(path) in PAGE_COUNTS and _count(value)), None)
        for first in (1, 0):
            # Only if the page that we call the first one is the one that we have.
            if self._rows(Page(first=first).start()) == self.rows:
                yield Page(first=first, pages=pages)
        for param in ("offset", "skip", "start"):
            yield Offset(param, None)

    def _rows(self, following: tuple[tuple[str, str], ...] | str) -> list[Any] | None:
        """Return the rows of another page, None if the service does not understand us."""
        try:
            if isinstance(following, str):
                answer = self.client.ask(Call(self.client.link(self.first.url, following, self.url)))
            else:
                answer = self.client.ask(Call(self.url, (*self.params, *following)))
            found = dig(_json(answer, self.url), self.path, None)
        except GranaryError:
            return None
        return found if isinstance(found, list) else None


def find_rows(body: Any, where: str) -> tuple[str, list[Any]]:
    """Return the path of the list of objects that is the least deep, and of those the longest, with the list.

    Raises:
        GranaryError: there is no list of objects.
    """
    level: list[tuple[str, Any]] = [("", body)]
    for _ in range(DEPTH):
        lists = [(path, v) for path, v in level if isinstance(v, list) and all(isinstance(row, dict) for row in v)]
        if lists:
            return max(lists, key=lambda found: len(found[1]))
        level = [
            (f"{path}.{name}" if path else name, value)
            for path, v in level
            if isinstance(v, dict)
            for name, value in v.items()
        ]
    raise GranaryError("the answer has no list of objects", where, "give the address of a collection")


def _scalars(body: Any, rows: str, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the paths and values of what stands beside the rows, the least deep first."""
    if not isinstance(body, dict) or depth == DEPTH:
        return
    inner = [(f"{path}.{name}" if path else name, value) for name, value in body.items()]
    yield from ((p, v) for p, v in inner if not isinstance(v, (dict, list)))
    for p, v in inner:
        if p != rows:
            yield from _scalars(v, rows, p, depth + 1)


def _json(answer: Answer, where: str) -> Any:
    try:
        return decode(answer.body)
    except NotJsonError:
        raise GranaryError("the answer is not JSON", where, "give the address of a JSON API") from None


def _last(path: str) -> str:
    """Return the last name of a path; "@odata.nextLink" is one name."""
    return path if path.startswith("@") else path.rpartition(".")[2]


def _is_link(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://", "/", "?"))


def _is_more(path: str, value: Any) -> bool:
    """Return whether a value beside the rows says that the first page is not all; `pages` alone may be a book's."""
    sure = _last(path) in PAGE_COUNTS and ("." in path or _last(path) not in ("pages", "page_count"))
    return value is True if _last(path) in MORE else sure and _count(value) and value > 1


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
