"""RabbitMQ streams, by AMQP: the messages of a queue of the type stream, with the offset of the next one as position.

A consumer begins one message before our position. That message has landed, so it must be the first to come: if another
one does, the stream was truncated or created again, of which the server says nothing.
(https://www.rabbitmq.com/docs/streams#consuming)
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from granary.streams.amqp import Amqp
from granary.streams.following import Following, Part, age, gone
from granary.streams.log import Lag, Message, Run, UnavailableError
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from granary.streams.address import Address

PROBE_SECONDS, QUIET_SECONDS = 2.0, 0.05
OFFSET = "x-stream-offset"
PREFETCH, ACKNOWLEDGED = 1_000, 250
"""Messages that may be under way to us, and how many of them are asked for anew at a time."""


@dataclass
class _Queue(Part):
    """One stream: `following` is the offset of the next message; the first that came was `checked`."""

    channel: Any = None
    following: int = 0
    checked: bool = False
    attached: float = 0.0
    unacknowledged: int = 0
    tag: int = 0
    lost: bool = False


class RabbitLog(Following[_Queue]):
    """The streams of one source."""

    kind = "rabbitmq-stream"

    def __init__(self, address: Address, topics: Sequence[str]) -> None:
        """Prepare a client; nothing is asked of the server yet.

        Raises:
            GranaryError: pika is not installed, or the address is wrong.
        """
        super().__init__()
        self._server = Amqp(address, topics, "queue of the type stream", OFFSET)
        self.topics, self._where = list(topics), address.hosts
        self._connection: Any = None

    # -- asking ----------------------------------------------------------------------------------------------

    def _ask(self, what: Callable[..., Any], *arguments: Any) -> Any:
        """Let the client work, and say what hinders it.

        Raises:
            GranaryError: the server denies access, or has no such stream.
            UnavailableError: it does not answer.
        """
        try:
            return what(*arguments)
        except self._server.failures as error:
            self._hang_up()
            raise self._server.told(error) from None

    def _connected(self) -> Any:
        if self._connection is None or not self._connection.is_open:
            self._connection = self._server.connect()
            for part in self.parts.values():
                self.restart(part)
        return self._connection

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        self._server.hang_up(connection)
        for part in self.parts.values():
            self.restart(part)

    # -- reading ---------------------------------------------------------------------------------------------

    def _find(self) -> None:
        if not self.parts:
            for topic in self.topics:
                self.restart(self.add(_Queue(topic, f"{topic}[0]")))

    def rewind(self, positions: Mapping[str, str]) -> None:
        """Go back to these positions, by another connection: a channel is not closed for this.

        The client would send back what it has of the channel, which a stream does not take: the server hangs up.
        """
        super().rewind(positions)
        self._hang_up()

    def restart(self, part: _Queue) -> None:
        """Forget what was received of a stream and has not landed; the next poll begins behind the position."""
        super().restart(part)
        part.channel = None
        part.following = int(part.position or 0)
        part.checked, part.lost, part.unacknowledged = part.following == 0, False, 0

    def poll(self, rows: int, seconds: float) -> list[Run]:
        """Return what arrives within so many seconds, by stream.

        Raises:
            GranaryError: messages are gone that were not read, or the server denies access.
            UnavailableError: the server does not answer.
        """
        self._find()
        share = max(1, rows // len(self.parts))
        self._ask(self._receive, share, seconds)
        return [run for part in self.parts.values() if (run := part.run(share)) is not None]

    def _receive(self, rows: int, seconds: float) -> None:
        connection = self._connected()
        ends = time.monotonic() + seconds
        for part in self.parts.values():
            if part.channel is None or not part.channel.is_open:
                self.restart(part)
                self._attach(connection, part)
        while (left := ends - time.monotonic()) > 0 and all(len(part.pending) < rows for part in self.parts.values()):
            connection.process_data_events(left)
            for part in self.parts.values():
                if part.lost:
                    raise gone(part.partition, part.position)
                if part.unacknowledged >= ACKNOWLEDGED and part.channel is not None and len(part.pending) < rows:
                    part.channel.basic_ack(part.tag, multiple=True)
                    part.unacknowledged = 0
        for part in self.parts.values():
            if not part.checked and time.monotonic() - part.attached > PROBE_SECONDS:
                last = self._last(part)
                if last is not None and last < part.following - 1:
                    raise gone(part.partition, part.position)

    def _attach(self, connection: Any, part: _Queue) -> None:
        """Begin to consume, one message before the next."""
        part.channel, part.attached = connection.channel(), time.monotonic()
        part.channel.basic_qos(prefetch_count=PREFETCH)
        part.channel.add_on_cancel_callback(lambda _: self.restart(part))
        where = {OFFSET: max(0, part.following - 1) if part.position is not None else "first"}
        part.channel.basic_consume(part.topic, partial(self._take, part), arguments=where)

    def _take(self, part: _Queue, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Keep a message."""
        if channel is not part.channel:
            return
        part.tag, part.unacknowledged = method.delivery_tag, part.unacknowledged + 1
        offset = int(properties.headers[OFFSET])
        if not part.checked and offset >= part.following - 1:
            part.checked, part.lost = True, offset > part.following
        if offset >= part.following and not part.lost:
            part.following, part.ended = offset + 1, False
            part.pending.append((str(part.following), Message(body, offset, float(properties.timestamp or 0))))

    def _probe(self, topic: str, where: int | str) -> list[tuple[int, float]]:
        """Return the offset and time of messages that a consumer who begins there is sent first: those of a chunk."""
        found: list[tuple[int, float]] = []

        def take(_: Any, __: Any, properties: Any, ___: bytes) -> None:
            found.append((int(properties.headers[OFFSET]), float(properties.timestamp or 0)))

        connection = self._server.connect()  # not ours: see `rewind`
        try:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=1)
            channel.basic_consume(topic, take, arguments={OFFSET: where})
            ends = time.monotonic() + PROBE_SECONDS
            while not found and (left := ends - time.monotonic()) > 0:
                connection.process_data_events(left)
            for _ in _while_it_grows(found):
                connection.process_data_events(QUIET_SECONDS)
        finally:
            self._server.hang_up(connection)
        return found

    def _last(self, part: _Queue) -> int | None:
        """Return the offset of the last message, -1 if there is none, or None if the server is too slow to tell."""
        if found := self._probe(part.topic, "last"):
            return max(offset for offset, _ in found)
        connection = self._server.connect()
        try:
            declared = connection.channel().queue_declare(part.topic, passive=True)
        finally:
            self._server.hang_up(connection)
        return None if declared.method.message_count else -1

    def wait(self, seconds: float) -> None:
        """Keep the connection alive; what comes meanwhile is not more than may be under way."""
        ends = time.monotonic() + seconds
        if self._connection is not None and self._connection.is_open:
            with suppress(*self._server.failures):  # the next poll says it
                self._connection.sleep(seconds)
        time.sleep(max(0.0, ends - time.monotonic()))

    def at_end(self) -> bool:
        """Return whether nothing is left of what is there now."""
        try:
            return bool(self.parts) and all(self._ask(self._ended, part) for part in self.parts.values())
        except UnavailableError:  # the next poll says it, and is tried again
            return False

    def _ended(self, part: _Queue) -> bool:
        if part.pending or not part.checked:
            return False
        last = self._last(part)
        part.waiting = None if last is None else max(0, last + 1 - part.following)
        return part.waiting == 0 and not part.pending

    def lag(self) -> list[Lag]:
        """Return how far each stream is behind the last message that is there now."""
        if self._connection is not None and self._connection.is_open:
            with suppress(GranaryError):
                for part in self.parts.values():
                    self._ask(self._measure, part)
        return super().lag()

    def _measure(self, part: _Queue) -> None:
        last = self._last(part)
        part.waiting = None if last is None else max(0, last + 1 - int(part.position or 0))

    def look(self, positions: Mapping[str, str]) -> list[Lag]:
        """Return how far these positions are behind, without reading on from them."""
        self.open(lambda: positions)
        self._find()
        return [self._ask(self._look, part) for part in self.parts.values()]

    def _look(self, part: _Queue) -> Lag:
        last, waits = self._last(part), self._probe(part.topic, part.following or "first")
        first, sent = min(((offset, at) for offset, at in waits if offset >= part.following), default=(None, 0.0))
        waiting = None if last is None else 0 if first is None else last + 1 - first
        return Lag(part.partition, part.position, waiting, age(sent))

    def close(self) -> None:
        """Close the connection."""
        self._hang_up()


def _while_it_grows(found: Sequence[object]) -> Iterator[None]:
    """Yield as long as something was added since."""
    known = -1
    while len(found) > known:
        known = len(found)
        yield
