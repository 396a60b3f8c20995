"""How a request proves who we are."""

from __future__ import annotations

import base64
import logging
import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, urlencode

from granary.readers.api.messages import Call, shown
from granary.readers.api.spec import ApiKey, Basic, OAuth2
from granary.warehouse.errors import GranaryError
from granary.warehouse.json_text import NotJsonError, decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from requests import PreparedRequest

    from granary.readers.api.messages import Answer, Pairs
    from granary.readers.api.spec import Auth

    Ask = Callable[[Call], Answer]

TOKEN_SECONDS = 300.0
"""How long a token is kept whose endpoint does not say when it expires."""


class NoAuth:
    """Sends no credentials; also keeps requests from taking some out of ~/.netrc."""

    word = "anonymous requests"

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Return the request as it is."""
        return request

    def renew(self) -> bool:
        """Return whether it is worth asking again after a 401."""
        return False


class HeaderAuth(NoAuth):
    """Adds one header."""

    def __init__(self, name: str, value: str, word: str) -> None:
        self.name, self.value, self.word = name, value, word

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Return the request with the header."""
        request.headers[self.name] = self.value
        return request


class QueryAuth(NoAuth):
    """Adds a key to the query."""

    word = "key"

    def __init__(self, name: str, secret: str) -> None:
        self.name, self.secret = name, secret
        # urllib3 writes each request's query to its log at level DEBUG.
        logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Return the request with the key; a link of the service may have it already."""
        pair = f"{quote_plus(self.name)}={quote_plus(self.secret)}"
        url = request.url or ""
        if not re.search(rf"[?&]{re.escape(quote_plus(self.name))}=", url):
            request.url = f"{url}{'&' if '?' in url else '?'}{pair}"
        return request


class TokenAuth(NoAuth):
    """Adds a bearer token, fetched when there is none and kept until shortly before it expires."""

    word = "token"

    def __init__(self, auth: OAuth2, ask: Ask) -> None:
        self.auth, self.ask = auth, ask
        self.token, self.until = "", 0.0

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Return the request with a token that is still good."""
        if not self.token or time.monotonic() >= self.until:
            self._fetch()
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request

    def renew(self) -> bool:
        """Forget the token: the service may have withdrawn it before its time."""
        self.token = ""
        return True

    def _fetch(self) -> None:
        """Exchange our credentials for a token (RFC 6749, sections 2.3.1, 4.4 and 5).

        Raises:
            GranaryError: the endpoint does not answer, denies access, or answers with no token.
        """
        auth = self.auth
        form = {"grant_type": "client_credentials"} | ({"scope": auth.scope} if auth.scope else {}) | dict(auth.extra)
        headers: Pairs = ()
        if auth.style == "header":
            headers = (("Authorization", basic(quote(auth.client_id, safe=""), quote(auth.secret, safe=""))),)
        else:
            form |= {"client_id": auth.client_id, "client_secret": auth.secret}
        where, advice = shown(auth.token_url), "check the client's id, secret and scope"
        answer = self.ask(
            Call(auth.token_url, (), headers, urlencode(form).encode(), "application/x-www-form-urlencoded")
        )
        body = _object(answer.body)
        if answer.status != 200:  # noqa: PLR2004
            code = str(body.get("error", ""))
            words = f", {code}" if re.fullmatch(r"[a-z_]{1,40}", code) else ""
            raise GranaryError(f"the token endpoint denies access ({answer.status}{words})", where, advice)
        token, kind, seconds = body.get("access_token"), body.get("token_type", "bearer"), body.get("expires_in")
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token) or str(kind).lower() != "bearer":
            raise GranaryError("the token endpoint answered with no bearer token", where, advice)
        try:
            lasts = TOKEN_SECONDS if seconds is None else float(seconds)
        except (TypeError, ValueError):
            lasts = TOKEN_SECONDS
        # A token that dies on the way costs a request; a tenth of its life, at most half a minute, is given away.
        self.token, self.until = token, time.monotonic() + lasts - min(30.0, lasts / 10)


def authenticator(auth: Auth | None, ask: Ask) -> NoAuth:
    """Return what adds the declared credentials to a request; `ask` sends a call to a token endpoint."""
    if isinstance(auth, ApiKey):
        if auth.place == "query":
            return QueryAuth(auth.name, auth.secret)
        return HeaderAuth(auth.name, auth.prefix + auth.secret, "key")
    if isinstance(auth, Basic):
        return HeaderAuth("Authorization", basic(auth.user, auth.secret), "password")
    return TokenAuth(auth, ask) if auth else NoAuth()


def basic(user: str, secret: str) -> str:
    """Return the value of a Basic header (RFC 7617, in UTF-8)."""
    return f"Basic {base64.b64encode(f'{user}:{secret}'.encode()).decode()}"


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = decode(body)
    except NotJsonError:
        return {}
    return found if isinstance(found, dict) else {}
