"""One careful HTTP client: it retries what is safe, waits as told, reads no more than agreed, and keeps its secrets."""

from __future__ import annotations

import logging
import random
import time
from dataclasses import replace
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from granary.readers.api.auth import authenticator
from granary.readers.api.exchange import ADVICE, Exchange, failure_words
from granary.readers.api.spec import check_url
from granary.warehouse.errors import GranaryError, TransientError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from requests import Response, Session

    from granary.readers.api.messages import Answer, Call
    from granary.readers.api.spec import Api

log = logging.getLogger(__name__)
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers that may be another one in a moment."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5
TOLD_SECONDS = 5.0
"""A wait as long as this is reported while it lasts."""
BACKOFF_SECONDS = 0.5


class Client:
    """Sends calls to one API. Not to be shared between threads."""

    def __init__(self, api: Api) -> None:
        """Remember the API; nothing is sent yet."""
        self.api, self.origin = api, check_url(api.url)
        self.auth = authenticator(api.auth, self._token)
        self._session: Session | None = None
        self._next = 0.0
        self.clock: tuple[float, float] | None = None
        """The service's clock at its last answer that said what time it was, and ours (seconds since 1970)."""

    def ask(self, call: Call, ends: Collection[int] = ()) -> Answer:
        """Return the answer to a call, after as many attempts as the API allows; `ends` are also good ones.

        Raises:
            GranaryError: the address is not the API's, the service does not answer, asks for a wait that is too long,
                refuses our credentials, sends more than agreed, or answers with an error.
        """
        return self.check(self.attempt(call), call, ends)

    def check(self, answer: Answer, call: Call, ends: Collection[int] = ()) -> Answer:
        """Return an answer if it is a good one; see `ask` for what it raises."""
        if answer.status in (401, 403):
            raise GranaryError(
                f"the service refuses our {self.auth.word} ({answer.status})", call.where, "check the source's key"
            )
        if answer.status == 429:  # noqa: PLR2004
            raise TransientError("the service still limits our rate after every retry (429)", call.where, ADVICE)
        unchanged = answer.status == 304 and any(name.startswith("If-") for name, _ in call.headers)  # noqa: PLR2004
        if answer.status not in (200, 204, *ends) and not unchanged:
            kind = TransientError if answer.status in TRANSIENT else GranaryError
            raise kind(f"the service answered {answer.status}", call.where, ADVICE)
        return answer

    def attempt(self, call: Call) -> Answer:
        """Return the first answer that is not transient, or the last one; see `ask` for what it raises."""
        from requests import exceptions as failures  # noqa: PLC0415 - 0.1 s that only this kind of source pays

        renewed, attempt = False, 0
        while True:
            attempt += 1
            try:
                answer = self._follow(call)
            except failures.RequestException as error:
                passing = (failures.ConnectionError, failures.ChunkedEncodingError, failures.Timeout)
                sure = isinstance(error, failures.SSLError)
                if isinstance(error, passing) and not sure and attempt < self.api.attempts:
                    time.sleep(backoff(attempt, self.api.longest_wait))
                    continue
                tried = f", {attempt} times" if attempt > 1 else ""
                what = failure_words(error, self.api.timeout)
                kind = TransientError if isinstance(error, passing) and not sure else GranaryError
                raise kind(f"{what}{tried}", call.where, ADVICE) from None
            if at := http_date(answer.headers.get("Date", "")):
                self.clock = at.timestamp(), time.time()
            if answer.status == 401 and not renewed and self.auth.renew():  # noqa: PLR2004
                renewed, attempt = True, attempt - 1
                continue
            if answer.status not in TRANSIENT:
                return answer
            asked = retry_after(answer.headers)
            if asked > self.api.longest_wait:
                raise TransientError(f"the service asks us to wait {asked:.0f} s", call.where, ADVICE)
            if attempt >= self.api.attempts:
                return answer
            if asked >= TOLD_SECONDS:
                log.warning("%s: the service asks us to wait %.0f s", call.where, asked)
            # Never sooner than asked; those who were told the same time should not come back at once.
            time.sleep(asked + random.uniform(0, 0.1 * asked) if asked else backoff(attempt, self.api.longest_wait))  # noqa: S311

    def link(self, base: str, link: str, where: str) -> str:
        """Return the whole address of a link that an answer gave.

        Raises:
            GranaryError: it leads away from the API's origin, where our credentials must not go.
        """
        url = urljoin(base, link)
        try:
            origin = check_url(url)
        except ValueError as error:
            raise GranaryError(f"the service gave a link that we do not follow: {error}", where, ADVICE) from None
        if origin != self.origin:
            scheme, host, port = origin
            raise GranaryError(
                f"the service redirects to {scheme}://{host[:100]}:{port}, where our credentials are not sent",
                where,
                "if that is right, declare it as the source's address",
            )
        return url

    def _follow(self, call: Call) -> Answer:
        """Send a call and follow redirects within the origin; a query by POST is not redirected."""
        url, params = self.link(call.url, call.url, call.where), call.params
        for _ in range(MAX_REDIRECTS + 1):
            answer = self._send(call, url, params)
            target = answer.headers.get("Location", "")
            if answer.status not in REDIRECTS or not target or call.data is not None:
                return answer
            url, params = self.link(answer.url, target, call.where), ()
        raise GranaryError(f"the service redirects more than {MAX_REDIRECTS} times", call.where, ADVICE)

    def _send(self, call: Call, url: str, params: tuple[tuple[str, str], ...]) -> Answer:
        """Send one request, and give up when the whole of its answer is not there in time."""
        self._pace()
        session, exchange = self.session(), Exchange(call.where, self.api.max_bytes)
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
        headers |= dict(self.api.headers) | dict(call.headers)
        if call.data is not None:
            headers["Content-Type"] = call.content_type

        def send() -> Response:
            return session.request(
                "GET" if call.data is None else "POST",
                url,
                params=params,
                data=call.data,
                headers=headers,
                auth=self.auth,
                timeout=(self.api.timeout, self.api.timeout),
                allow_redirects=False,
                stream=True,
            )

        try:
            return exchange.run(send, url, self.api.deadline)
        except BaseException:
            self._session = None  # a connection that is still busy must not be used again
            raise

    def _token(self, call: Call) -> Answer:
        """Ask a token endpoint: a service of its own, with neither our session nor our headers.

        Asking twice only makes another token, so it is retried like a query.
        """
        api = replace(self.api, url=call.url, auth=None, rate=None, max_bytes=2**20, headers=())
        return Client(api).attempt(call)

    def _pace(self) -> None:
        """Wait until the declared rate allows another request."""
        if self.api.rate is not None:
            time.sleep(max(0.0, self._next - time.monotonic()))
            self._next = max(self._next, time.monotonic()) + 1 / self.api.rate

    def session(self) -> Session:
        """Return the connection pool, made on first use."""
        if self._session is None:
            from requests import Session  # noqa: PLC0415 - 0.1 s that only this kind of source pays

            self._session = Session()
        return self._session


def backoff(attempt: int, longest: float) -> float:
    """Return seconds to wait after a failed attempt (from 1): full jitter below a doubling bound.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return random.uniform(0, min(longest, BACKOFF_SECONDS * 2**attempt))  # noqa: S311 - not for secrets


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that Retry-After asks for (RFC 9110, section 10.2.3), 0 if it asks for nothing.

    An HTTP date is compared with the answer's own Date, since the service's clock may not be ours.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:10])
    at, now = http_date(value), http_date(headers.get("Date", "")) or datetime.now(timezone.utc)
    return max(0.0, (at - now).total_seconds()) if at else 0.0


def http_date(value: str) -> datetime | None:
    """Return the instant of an HTTP date, None if it is none."""
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


def validator(headers: Mapping[str, Any]) -> str | None:
    """Return what tells whether a representation changed, None if the answer has nothing that is sure.

    An ETag, or a Last-Modified that is over a second older than the answer: a date has whole seconds, so a second
    change within the same one would not show (RFC 9110, section 8.8.2.2).
    """
    if tag := headers.get("ETag"):
        return f"etag {tag}"
    modified, now = http_date(headers.get("Last-Modified", "")), http_date(headers.get("Date", ""))
    if modified and now and (now - modified).total_seconds() > 1:
        return f"modified {headers['Last-Modified']}"
    return None


def conditions(version: str | None) -> tuple[tuple[str, str], ...]:
    """Return the headers that ask for an answer only if it is another than the one with this validator."""
    kind, _, value = (version or "").partition(" ")
    names = {"etag": "If-None-Match", "modified": "If-Modified-Since"}
    return ((names[kind], value),) if kind in names and value else ()
