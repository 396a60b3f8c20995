"""One request and its answer, within a limit of time and of bytes, whatever the other side does."""

from __future__ import annotations

import ssl
import threading
from contextlib import suppress
from queue import Empty, SimpleQueue
from socket import gaierror
from typing import TYPE_CHECKING

from granary.readers.api.messages import Answer
from granary.warehouse.errors import GranaryError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from requests import Response

ADVICE = "nothing of this load has landed; load again when the service is well"
CHUNK_BYTES = 2**17


class Exchange:
    """Sends one request in a thread of its own.

    A timeout of the socket starts anew with each byte, and looking up a host has none. So the thread that wants the
    answer only waits for it: until the deadline, and not after Ctrl-C.
    """

    def __init__(self, where: str, max_bytes: int) -> None:
        self.where, self.max_bytes = where, max_bytes
        self._response: Response | None = None
        self._given_up = threading.Event()
        self._outcome: SimpleQueue[Answer | BaseException] = SimpleQueue()

    def run(self, send: Callable[[], Response], url: str, seconds: float) -> Answer:
        """Return the answer to what `send` sends.

        Raises:
            GranaryError: it is not whole after so many seconds, or larger than agreed.
            requests.RequestException: there is no answer, or it breaks off.
        """
        threading.Thread(target=self._work, args=(send, url), name="granary-request", daemon=True).start()
        try:
            outcome = self._outcome.get(timeout=seconds)
        except BaseException as error:
            self._hang_up()
            if isinstance(error, Empty):
                raise TransientError(f"the answer takes longer than {seconds:g} s", self.where, ADVICE) from None
            raise
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _work(self, send: Callable[[], Response], url: str) -> None:
        try:
            with send() as response:
                self._response = response
                self._outcome.put(Answer(response.status_code, url, response.headers, self._body(response)))
        except BaseException as error:  # raised again where the answer is waited for
            self._outcome.put(error)

    def _body(self, response: Response) -> bytes:
        """Read the answer, no further than its limit, whatever it says of its length and however it is packed."""
        parts: list[bytes] = []
        size = 0
        for part in response.iter_content(CHUNK_BYTES):
            size += len(part)
            if size > self.max_bytes:
                raise GranaryError(
                    f"the answer is larger than {self.max_bytes:,} bytes", self.where, "ask for smaller pages"
                )
            if self._given_up.is_set():
                break
            parts.append(part)
        return b"".join(parts)

    def _hang_up(self) -> None:
        """Have the thread end: at its next piece, or at once where the library can wake it."""
        self._given_up.set()
        if wake := getattr(self._response and self._response.raw, "shutdown", None):
            with suppress(OSError, ValueError, RuntimeError):
                wake()


def failure_words(error: Exception, timeout: float) -> str:
    """Return why there is no answer, in words; those of the error may show the address with its query.

    Args:
        error: what `requests` raised.
        timeout: seconds without a byte, after which it gave up.
    """
    from requests import exceptions as failures  # noqa: PLC0415 - 0.1 s that only this kind of source pays
    from urllib3.exceptions import ReadTimeoutError  # noqa: PLC0415

    silent = "the service does not answer"
    words: dict[str, tuple[type[BaseException], ...]] = {
        "the answer's compression is damaged": (failures.ContentDecodingError,),
        f"{silent}: no connection within {timeout:g} s": (failures.ConnectTimeout,),
        f"{silent}: it sent nothing for {timeout:g} s": (failures.ReadTimeout, ReadTimeoutError),
        f"{silent}: no secure connection can be made; is its certificate right?": (failures.SSLError, ssl.SSLError),
        f"{silent}: its host is not known": (gaierror,),
        f"{silent}: it refuses the connection": (ConnectionRefusedError,),
        "the answer was interrupted": (failures.ChunkedEncodingError,),
        f"{silent}: the connection was interrupted": (failures.ConnectionError,),
    }
    causes = list(_causes(error))
    found = (what for what, kinds in words.items() if any(isinstance(cause, kinds) for cause in causes))
    return next(found, "the request cannot be sent")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that led to it, which libraries keep in several places."""
    level, known = [error], {id(error)}
    while level:
        cause = level.pop()
        yield cause
        for inner in (*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__):
            if isinstance(inner, BaseException) and id(inner) not in known:
                known.add(id(inner))
                level.append(inner)
