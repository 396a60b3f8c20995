"""What goes to a service and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Call:
    """A request that changes nothing at the service and may be sent again: a GET, or with `data` a query by POST."""

    url: str
    params: Pairs = ()
    headers: Pairs = field(default=(), repr=False)
    data: bytes | None = field(default=None, repr=False)
    content_type: str = "application/json"
    part: str = ""
    """What of the collection is asked for, such as "page 3", for errors."""

    @property
    def where(self) -> str:
        """What is asked for, as it may be shown."""
        return f"{shown(self.url)}, {self.part}" if self.part else shown(self.url)


@dataclass(frozen=True)
class Answer:
    """A whole answer: its status, the address that gave it, its headers (in any case) and its decompressed body."""

    status: int
    url: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


def shown(url: str) -> str:
    """Return an address without credentials, query and fragment, which may hold secrets."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
