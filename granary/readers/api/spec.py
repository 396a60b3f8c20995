"""How an API is declared: its address, how we prove who we are, and how much we let it ask of us."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from granary.sources import validation

MIB = 2**20


@dataclass(frozen=True)
class ApiKey:
    """A fixed key in a header, or with `place="query"` in the address; `prefix` is put before it ("Bearer ")."""

    name: str
    secret: str = field(repr=False)
    place: str = "header"
    prefix: str = ""

    def __post_init__(self) -> None:
        """Check the place."""
        validation.check(self, "ApiKey", filled=("name", "secret"))
        if self.place not in ("header", "query"):
            raise ValueError(f"ApiKey: place is one of header, query and not {self.place!r}")


@dataclass(frozen=True)
class Basic:
    """A user and a password (RFC 7617), which may be empty."""

    user: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        """Check the user."""
        validation.check(self, "Basic", filled=("user",))


@dataclass(frozen=True)
class OAuth2:
    """Client credentials (RFC 6749, section 4.4), exchanged for a token that is kept until it expires.

    `style` says where the client's own credentials go: in a Basic header, as the RFC prefers, or in the body.
    """

    token_url: str
    client_id: str
    secret: str = field(repr=False)
    scope: str = ""
    style: str = "header"
    extra: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Check the address and the style."""
        validation.check(self, "OAuth2", filled=("client_id", "secret"))
        check_url(self.token_url, "OAuth2: token_url")
        if self.style not in ("header", "body"):
            raise ValueError(f"OAuth2: style is one of header, body and not {self.style!r}")


Auth = ApiKey | Basic | OAuth2


@dataclass(frozen=True)
class Api:
    """One service.

    Attributes:
        url: where every path begins; http or https, without credentials.
        auth: how we prove who we are, to this origin and to no other.
        rate: the most requests a second that we send; None is as fast as it answers.
        attempts: how often a request that changes nothing is sent before we give up.
        timeout: seconds without a byte.
        deadline: seconds for the body of one answer, however steadily it drips.
        longest_wait: the longest Retry-After, in seconds, that we obey.
        max_bytes: the largest answer, after decompression.
        max_pages: the most pages of one collection.
        max_depth: how deep the values of a row may be nested.
        headers: further headers, such as Accept or an API version.
    """

    url: str
    auth: Auth | None = field(default=None, repr=False)
    rate: float | None = None
    attempts: int = 5
    timeout: float = 10.0
    deadline: float = 300.0
    longest_wait: float = 30.0
    max_bytes: int = 32 * MIB
    max_pages: int = 100_000
    max_depth: int = 32
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Check the address and the limits."""
        limits = ("rate", "attempts", "timeout", "deadline", "max_bytes", "max_pages", "max_depth")
        validation.check(self, "Api", positive=limits, natural=("longest_wait",))
        check_url(self.url, "Api: url")

    def at(self, path: str) -> str:
        """Return the address of a path below the service's address."""
        return f"{self.url.rstrip('/')}/{path.lstrip('/')}" if path else self.url


Origin = tuple[str, str, int]
"""Scheme, host and port: what credentials belong to (RFC 6454)."""


def check_url(url: str, label: str = "the address") -> Origin:
    """Return the origin of an address, which messages call by a label.

    Raises:
        ValueError: it is not a plain http(s) address. Characters on which parsers disagree about where the host ends
            (backslashes, blanks, credentials) are refused, since what is checked here is sent by another parser.
    """
    if any(character == "\\" or ord(character) <= 0x20 or ord(character) == 0x7F for character in url):  # noqa: PLR2004
        raise ValueError(f"{label} has characters that no address has")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{label} is not http:// or https://")
    if "@" in parts.netloc:
        raise ValueError(f"{label} has credentials in it; declare them as auth")
    return parts.scheme, parts.hostname.lower(), parts.port or (443 if parts.scheme == "https" else 80)
