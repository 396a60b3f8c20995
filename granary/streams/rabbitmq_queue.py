"""RabbitMQ: queues, classic and quorum, by AMQP 0-9-1 (https://www.rabbitmq.com/docs/confirms, .../consumer-prefetch).

What we were given and have not acknowledged, the server gives again when our connection ends, to us or to another
consumer. How many messages of a queue are under way at once, the prefetch, also bounds a batch. AMQP does not say how
old the first message of a queue is; its count comes with a passive declaration.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from granary.streams.amqp import Amqp
from granary.streams.log import UnavailableError
from granary.streams.queues import BATCH_BYTES, Queues, Received
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.streams.address import Address

PREFETCH = 2_000
STREAM = "rabbit_stream_queue"
PRECONDITION_FAILED = 406
OTHERS_SECONDS = 2.0
"""How long an empty queue must have been silent, if others read it as well: what they hold may come back."""


class RabbitQueues(Queues):
    """The queues of one source, by one connection."""

    kind = "rabbitmq"

    def __init__(self, address: Address, topics: Sequence[str]) -> None:
        """Prepare; nothing is asked of the server yet.

        Raises:
            GranaryError: pika is not installed, or an option of the address means nothing.
        """
        super().__init__(topics)
        self._header = address.options.get("id", "")
        self._server = Amqp(address, topics, "queue", self._header)
        self._where = address.hosts
        prefetch = address.options.get("prefetch", str(PREFETCH))
        if not prefetch.isdecimal() or not 1 <= int(prefetch) <= 65_535:  # noqa: PLR2004 - what the protocol has room for
            raise GranaryError("prefetch is not a number from 1 to 65,535", self._where, "fix the queue's address")
        self.most = self._prefetch = int(prefetch)
        self._connection: Any = None
        self._channel: Any = None
        self._arrived: dict[str, deque[Received]] = {topic: deque() for topic in topics}
        self._consuming = False
        self._gone: str | None = None
        self._empty_looks = 0
        self._checked = False

    def _connect(self) -> None:
        """Connect, and find the queues."""
        try:
            self._connection = self._server.connect()
            self._channel = self._connection.channel()
            for topic in self.topics:
                self._channel.queue_declare(topic, passive=True)
            self._channel.basic_qos(prefetch_count=self._prefetch)
            self._channel.add_on_cancel_callback(self._cancelled)
        except self._server.failures as error:
            self._drop()
            raise self._server.told(error) from None
        if not self._checked:
            self._may_read()
            self._checked = True

    def _cancelled(self, frame: Any) -> None:
        """Hear that the server has ended a consumer of ours: its queue was deleted, or its node is down."""
        self._gone = str(frame.method.consumer_tag)

    def _drop(self) -> None:
        """Forget the connection, and all that came by it: the server gives it again."""
        connection, self._connection, self._channel = self._connection, None, None
        self._consuming = False
        for arrived in self._arrived.values():
            arrived.clear()
        self._server.hang_up(connection)

    def _receive(self, topic: str, most: int, seconds: float) -> list[Received]:
        try:
            self._consume()
            if not self._arrived[topic]:
                self._connection.process_data_events(seconds)
        except self._server.failures as error:
            self._drop()
            raise self._server.told(error) from None
        if self._gone is not None:
            gone, self._gone = self._gone, None
            self._drop()
            raise UnavailableError(f"RabbitMQ gives no more of {gone}", self._where, "was the queue deleted?")
        arrived, size = self._arrived[topic], 0
        found: list[Received] = []
        while arrived and len(found) < most and size < BATCH_BYTES:
            found.append(arrived.popleft())
            size += len(found[-1].value)
        return found

    def _consume(self) -> None:
        """Have messages sent to us."""
        if self._connection is None:
            self._connect()
        if self._consuming:
            return
        for topic in self.topics:

            def arrived(_: Any, method: Any, properties: Any, body: bytes, topic: str = topic) -> None:
                sender = (properties.headers or {}).get(self._header) if self._header else None
                name = _text(properties.message_id if sender is None else sender)
                receipt = (self._channel, method.delivery_tag)
                received = Received(name, body, float(properties.timestamp or 0), receipt, method.redelivered)
                self._arrived[topic].append(received)

            self._channel.basic_consume(topic, arrived, consumer_tag=topic)
        self._consuming = True

    def _pause(self) -> None:
        """Have no more sent; what has not been polled goes back."""
        if self._consuming:
            for topic in self.topics:
                self._channel.basic_cancel(topic)
            self._consuming = False

    def wait(self, seconds: float) -> None:
        """Stay connected without reading: a heartbeat wants an answer, and a queue that is read fills our memory."""
        ends = time.monotonic() + seconds
        try:
            if self._connection is not None:
                self._pause()
                self._connection.process_data_events(seconds)
        except self._server.failures:
            self._drop()  # what is held lands all the same, and is known when it comes again
        time.sleep(max(0.0, ends - time.monotonic()))

    def _acknowledge(self, topic: str, receipts: Sequence[Any]) -> None:
        """Acknowledge: in one go up to the first message that has not landed, then one by one."""
        tags = sorted(tag for channel, tag in receipts if channel is self._channel)
        if len(tags) < len(receipts):
            raise UnavailableError("the connection was lost", self._where)
        with self._lock:
            others = [tag for held in self._held.values() for _, tag in held]
        others += [one.receipt[1] for arrived in self._arrived.values() for one in arrived]
        first = min(others, default=tags[-1] + 1)
        together = [tag for tag in tags if tag < first]
        try:
            if together:
                self._channel.basic_ack(together[-1], multiple=True)
            for tag in tags[len(together) :]:
                self._channel.basic_ack(tag)
        except self._server.failures as error:
            self._drop()
            raise self._server.told(error) from None

    def _give_back(self, topic: str, receipts: Sequence[Any]) -> None:
        try:
            for channel, tag in receipts:
                if channel is self._channel:
                    channel.basic_nack(tag, requeue=True)
        except self._server.failures as error:
            self._drop()
            raise self._server.told(error) from None

    def _waiting(self, topic: str) -> int | None:
        return self._counts(topic)[0] + len(self._arrived[topic])

    def _counts(self, topic: str) -> tuple[int, int]:
        """Return how many messages are ready in a queue, and how many consumers it has."""
        try:
            if self._connection is None:
                self._connect()
            found = self._channel.queue_declare(topic, passive=True).method
        except self._server.failures as error:
            self._drop()
            raise self._server.told(error) from None
        return int(found.message_count), int(found.consumer_count)

    def at_end(self) -> bool:
        """Return whether the queues are empty, twice in a row: an answer may overtake the messages before it.

        While others read them too, what these hold may come back for a moment: one of them may have been killed.
        """
        counts = [self._counts(topic) for topic in self.topics]
        waits = any(self._arrived.values()) or any(ready for ready, _ in counts)
        if any(consumers > 1 for _, consumers in counts) and time.monotonic() - self._heard < OTHERS_SECONDS:
            waits = True
        self._empty_looks = 0 if waits else self._empty_looks + 1
        return self._empty_looks > 1

    def _may_read(self) -> None:
        """Check that the topics are queues that the user may read: a stream read so does not go on where it ended.

        What asks for the right is a consumer with a priority that is no number. The server refuses it for that after
        it has looked at the rights, and before it gives anything.
        """
        for topic in self.topics:
            try:
                self._connection.channel().basic_consume(topic, _ignore, arguments={"x-priority": "none"})
            except self._server.failures as error:
                if getattr(error, "reply_code", 0) == PRECONDITION_FAILED and STREAM not in str(error):
                    continue
                self._drop()
                if STREAM in str(error):
                    todo = "read it by an address of rabbitmq-stream://"
                    raise GranaryError(f"the queue {topic!r} is a stream", self._where, todo) from None
                raise self._server.told(error) from None

    def _hang_up(self) -> None:
        self._drop()


def _ignore(*_: Any) -> None:
    """Take no message."""


def _text(name: Any) -> str | None:
    """Return an id as text; the protocol has no encoding for it, so that it may be any bytes."""
    if isinstance(name, bytes):
        return name.decode("utf-8", "surrogateescape")
    return None if name is None else str(name)
