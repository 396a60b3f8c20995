"""What keeps the webhooks' server alive among senders that are slow on purpose, or send heads without an end.

Until its signature is checked, a request is from anybody: the time for its head and the size of that are bounded
(uvicorn's faster parser has no limit of it), as those of its body are in `webhooks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

HEAD_SECONDS = 10.0
"""How long the head of a request may take: from the connection, or from its first byte on a connection that is kept."""
HEAD_BYTES = 16_384


class GuardedProtocol(H11Protocol):
    """HTTP/1.1 that closes connections on which no whole head of a request arrives in time."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Go on with a request; what comes when none is under way is the beginning of one, or of no use."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._done()
        elif self._late is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._done()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._late = self.loop.call_later(HEAD_SECONDS, self._close)

    def _done(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _close(self) -> None:
        self._late = None
        if self.transport is not None and not self.transport.is_closing():
            self.transport.abort()
