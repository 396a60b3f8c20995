"""How the pages of a collection follow each other, as pure functions of the page at hand."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from granary.sources import validation
from granary.warehouse.json_text import digits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.readers.api.messages import Pairs

MISSING = object()
Size = tuple[str, int]
"""The parameter for the size of a page, and the size that we ask for."""


class NotAgreedError(Exception):
    """An answer has not the agreed shape; its text names the part that is missing."""


def dig(value: Any, path: str, default: Any = MISSING) -> Any:
    """Return what is at a dotted path of nested objects; a name with dots in it is tried as a whole first.

    Raises:
        NotAgreedError: there is nothing, and no default.
    """
    rest = path
    while rest:
        if isinstance(value, dict) and rest in value:
            return value[rest]
        head, _, tail = rest.partition(".")
        if not tail or not isinstance(value, dict) or head not in value:
            if default is MISSING:
                raise NotAgreedError(path)
            return default
        value, rest = value[head], tail
    return value


@dataclass(frozen=True)
class Got:
    """The page at hand: its place (from 1), its rows, the rows so far with it, the announced total, and the answer."""

    number: int
    rows: list[Any]
    count: int
    total: int | None
    body: Any
    headers: Mapping[str, str]

    def ends(self, more: str | None) -> bool:
        """Return whether the service itself says that this is the last page."""
        if more is not None:
            return not dig(self.body, more)
        return self.total is not None and self.count >= self.total


class Pagination(Protocol):
    """How to ask for the first page, and from a page for the next one."""

    def start(self) -> Pairs:
        """Return the parameters of the first page."""
        ...

    def follow(self, got: Got) -> Pairs | str | None:
        """Return the next page's parameters or its link, None after the last page."""
        ...


class _Paged:
    """A pagination whose options are checked when it is made."""

    size: Size | None

    def __post_init__(self) -> None:
        """Check the options."""
        label = type(self).__name__
        texts = [name for name, value in vars(self).items() if isinstance(value, str)]
        validation.check(self, label, filled=texts)
        if self.size and (not self.size[0] or self.size[1] < 1):
            raise ValueError(f"{label}: size is a parameter and a number over 0, and not {self.size!r}")


@dataclass(frozen=True)
class Page(_Paged):
    """Numbered pages: ?page=1, ?page=2, ...

    Reading ends at an empty page, at the announced total, at the number of `pages`, or where `more` (a path) is false.
    A short page is no end: services give fewer rows than asked for.
    """

    param: str = "page"
    first: int = 1
    size: Size | None = None
    pages: str | None = None
    more: str | None = None

    def start(self) -> Pairs:
        """Return the parameters of the first page."""
        return (*_size(self.size), (self.param, str(self.first)))

    def follow(self, got: Got) -> Pairs | str | None:
        """Return the next page's parameters."""
        last = self.pages is not None and got.number >= int(dig(got.body, self.pages))
        if not got.rows or last or got.ends(self.more):
            return None
        return (*_size(self.size), (self.param, str(self.first + got.number)))


@dataclass(frozen=True)
class Offset(_Paged):
    """Pages by the number of rows before them; it counts the rows that came, not those that were asked for."""

    param: str = "offset"
    size: Size | None = ("limit", 1000)
    more: str | None = None

    def start(self) -> Pairs:
        """Return the parameters of the first page."""
        return (*_size(self.size), (self.param, "0"))

    def follow(self, got: Got) -> Pairs | str | None:
        """Return the next page's parameters."""
        if not got.rows or got.ends(self.more):
            return None
        return (*_size(self.size), (self.param, str(got.count)))


@dataclass(frozen=True)
class Cursor(_Paged):
    """Pages by a token that each answer gives at the path `token` for the next one.

    A null or empty token is the end, and so is a missing one if it is `optional`. If the answer has no token but
    the last row has one, `token` begins with "-1." ("-1.id", as in starting_after=<id of the last row>).
    """

    token: str
    param: str
    size: Size | None = None
    more: str | None = None
    optional: bool = False

    def start(self) -> Pairs:
        """Return the parameters of the first page."""
        return _size(self.size)

    def follow(self, got: Got) -> Pairs | str | None:
        """Return the next page's parameters."""
        if self.token.startswith("-1."):
            token = dig(got.rows[-1], self.token[3:]) if got.rows else None
        else:
            token = dig(got.body, self.token, None if self.optional else MISSING)
        if token is None or token == "" or token is False or (self.more and got.ends(self.more)):
            return None
        if isinstance(token, bool) or not isinstance(token, (str, int, Decimal)):
            raise NotAgreedError(self.token)
        return (*_size(self.size), (self.param, token if isinstance(token, str) else digits(token)))


@dataclass(frozen=True)
class LinkHeader(_Paged):
    """Pages by a header: Link: <https://…?page=2>; rel="next" (RFC 8288)."""

    size: Size | None = None

    def start(self) -> Pairs:
        """Return the parameters of the first page."""
        return _size(self.size)

    def follow(self, got: Got) -> Pairs | str | None:
        """Return the next page's link."""
        from requests.utils import parse_header_links  # noqa: PLC0415 - 0.1 s that only this kind of source pays

        for link in parse_header_links(got.headers.get("Link", "")):
            if "next" in link.get("rel", "").lower().split():
                return str(link["url"])
        return None


@dataclass(frozen=True)
class NextLink(_Paged):
    """Pages by a link in the answer, at the path `link`; null or empty at the end, or missing if `optional`."""

    link: str = "next"
    size: Size | None = None
    optional: bool = False

    def start(self) -> Pairs:
        """Return the parameters of the first page."""
        return _size(self.size)

    def follow(self, got: Got) -> Pairs | str | None:
        """Return the next page's link."""
        link = dig(got.body, self.link, None if self.optional else MISSING)
        if link is not None and not isinstance(link, str):
            raise NotAgreedError(self.link)
        return link or None


def _size(size: Size | None) -> Pairs:
    return ((size[0], str(size[1])),) if size else ()
