"""Kafka: a consumer group whose positions are kept in the warehouse, not in the broker.

The group only says which process reads which partition. When partitions are given to us, we seek to what the warehouse
holds; what is committed to the broker afterwards is for tools that show the group's lag.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from granary.streams.log import Lag, Message, Run
from granary.warehouse.errors import GranaryError, missing_package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from granary.streams.address import Address

DEFAULTS = {
    "client.id": "granary",
    "session.timeout.ms": "10000",
    "max.poll.interval.ms": "300000",
    # What waits in this process is 32 MB: at 24 it stops fetching, and the broker keeps the rest; the last answer may
    # bring 8 more (of 50, which it is by default, two would be under way).
    "queued.max.messages.kbytes": "24576",
    "fetch.max.bytes": "8388608",
    "fetch.wait.max.ms": "100",
    "isolation.level": "read_committed",
    "log_level": "3",
}
OURS = {
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "enable.partition.eof": "true",
    "auto.offset.reset": "error",
    "partition.assignment.strategy": "range",
    "allow.auto.create.topics": "false",
}
"""What exactly-once rests on: an address may not change it."""

CONNECT_SECONDS = 10
PATIENCE_SECONDS = 600
"""How long the client tries to reach the brokers before the stream gives up."""
Part = tuple[str, int]


class KafkaLog:
    """The topics of one source, read as a member of a consumer group."""

    kind = "kafka"

    def __init__(self, address: Address, topics: Sequence[str], group: str) -> None:
        """Prepare a consumer; nothing is asked of the broker yet.

        Raises:
            GranaryError: confluent-kafka is not installed, or refuses an option of the address.
        """
        try:
            import confluent_kafka as kafka  # noqa: PLC0415 - an extra, and 30 ms
        except ImportError:
            raise missing_package("Kafka", "confluent-kafka", "streams") from None
        if forbidden := set(address.options) & set(OURS):
            raise GranaryError(
                f"the log's address may not set {min(forbidden)}", todo="take it out: Granary needs its own"
            )
        self._kafka, self.topics = kafka, list(topics)
        self._starts: dict[Part, str | None] = {}
        self._ends: dict[Part, int] = {}
        self._ended: set[Part] = set()
        self._away_since: float | None = None
        self._sent: dict[Part, float] = {}
        self._failure: GranaryError | None = None
        self._where = address.hosts
        try:
            self._consumer = kafka.Consumer(
                {
                    **DEFAULTS,
                    **address.options,
                    **OURS,
                    "bootstrap.servers": address.hosts,
                    "group.id": group,
                    "error_cb": self._heard,
                    "logger": _Silent(),
                }
            )
        except kafka.KafkaException as error:
            # The client's words name the property, and may quote its value.
            words = str(error.args[0].str()).split(" value ")[0]
            raise GranaryError(f"Kafka refuses an option: {words}", self._where, "fix the log's address") from None

    def open(self, positions: Callable[[], Mapping[str, str]]) -> None:
        """Join the group.

        Raises:
            GranaryError: the broker does not answer, or a topic is not there.
        """
        self._positions = positions
        self._look(self.topics)
        self._consumer.subscribe(self.topics, on_assign=self._given, on_revoke=self._taken, on_lost=self._taken)

    def _look(self, topics: Iterable[str]) -> dict[str, list[int]]:
        """Return the partitions of topics."""
        numbers = {}
        for topic in topics:
            try:
                found = self._consumer.list_topics(topic, timeout=CONNECT_SECONDS).topics[topic]
            except self._kafka.KafkaException as error:
                what = self._failure.what if self._failure else error.args[0].str()
                raise GranaryError(
                    f"Kafka does not answer: {what}", self._where, "check the log's address, and that it is up"
                ) from None
            if found.error is not None or not found.partitions:
                raise GranaryError(
                    f"Kafka has no topic {topic!r}", self._where, "create it, or fix the source's topics"
                )
            numbers[topic] = sorted(found.partitions)
        return numbers

    def _heard(self, error: Any) -> None:
        """Keep an error that no attempt will fix; the client fixes all others by itself."""
        codes = self._kafka.KafkaError
        if error.code() == codes._ALL_BROKERS_DOWN:
            self._away_since = self._away_since or time.monotonic()
        if error.fatal() or error.code() in (codes._AUTHENTICATION, codes._SSL):
            self._failure = GranaryError(
                f"Kafka: {error.name()}: {error.str()[:200]}", self._where, "check the log's address"
            )

    def _given(self, consumer: Any, parts: list[Any]) -> None:
        """Begin with partitions where the warehouse says."""
        try:
            stored = self._positions()
        except GranaryError as error:
            self._failure = error  # raised by the next poll: this is called by the client
            consumer.assign([])
            return
        for part in parts:
            self._start(part, stored)
        consumer.assign(parts)

    def _start(self, part: Any, stored: Mapping[str, str]) -> None:
        position = stored.get(_name((part.topic, part.partition)))
        self._starts[part.topic, part.partition] = position
        part.offset = self._kafka.OFFSET_BEGINNING if position is None else int(position)

    def _taken(self, consumer: Any, parts: list[Any]) -> None:
        """Forget partitions: what was polled of them and has not landed, another process reads again."""
        for part in parts:
            for known in (self._starts, self._ends, self._sent):
                known.pop((part.topic, part.partition), None)
            self._ended.discard((part.topic, part.partition))

    def poll(self, rows: int, seconds: float) -> list[Run]:
        """Return what arrives within so many seconds, by partition.

        Raises:
            GranaryError: messages are gone that were not read, or the broker denies access.
        """
        found: dict[Part, list[Message]] = {}
        try:
            messages = self._consumer.consume(rows, seconds)
        except self._kafka.KafkaException as error:
            raise GranaryError(f"Kafka: {error.args[0].str()[:200]}", self._where, "start the stream again") from None
        for message in messages:
            self._away_since = None
            part = (str(message.topic()), int(message.partition() or 0))
            if message.error() is not None:
                self._note(part, message)
                continue
            self._ended.discard(part)
            at = message.timestamp()[1] / 1000
            found.setdefault(part, []).append(Message(message.value(), message.offset(), at))
        if self._away_since and time.monotonic() - self._away_since > PATIENCE_SECONDS:
            self._failure = GranaryError(
                "Kafka does not answer any more", self._where, "start the stream again when it is up"
            )
        if self._failure:
            raise self._failure
        return [run for part, messages in found.items() if (run := self._run(part, messages)) is not None]

    def _note(self, part: Part, message: Any) -> None:
        """Hear what the client says in between: the end of a partition, or an error."""
        error, codes = message.error(), self._kafka.KafkaError
        if error.code() == codes._PARTITION_EOF:
            self._ends[part] = message.offset()
            self._ended.add(part)
        elif error.code() in (codes._AUTO_OFFSET_RESET, codes.OFFSET_OUT_OF_RANGE):
            self._failure = gone(_name(part), self._starts.get(part))
        elif error.fatal() or error.code() in (
            codes.TOPIC_AUTHORIZATION_FAILED,
            codes.GROUP_AUTHORIZATION_FAILED,
            codes.UNKNOWN_TOPIC_OR_PART,
        ):
            self._failure = GranaryError(f"Kafka: {error.name()}: {error.str()[:200]}", _name(part), "check the broker")

    def _run(self, part: Part, messages: list[Message]) -> Run | None:
        """Return the messages of a partition that follow its position.

        While a poll gathers, partitions may be taken and given again: what was gathered before comes twice then.
        """
        if part not in self._starts:
            return None
        start = self._starts[part]
        following = -1 if start is None else int(start)
        kept = []
        for message in messages:
            if message.line is not None and message.line >= following:
                kept.append(message)
                following = message.line + 1
        if not kept:
            return None
        return Run(part[0], _name(part), start, str(following), tuple(kept))

    def landed(self, runs: Sequence[Run]) -> None:
        """Begin the next runs behind these, and tell the broker how far the group has come, without waiting."""
        offsets = []
        for run in runs:
            part = _part(run.partition)
            if part in self._starts:
                self._starts[part] = run.end
                self._sent[part] = run.messages[-1].at
                offsets.append(self._kafka.TopicPartition(*part, int(run.end)))
        if offsets:
            with suppress(self._kafka.KafkaException):  # only tools that show the lag would miss it
                self._consumer.commit(offsets=offsets, asynchronous=True)

    def rewind(self, positions: Mapping[str, str]) -> None:
        """Go back to these positions in every partition of ours."""
        parts = self._consumer.assignment()
        for part in parts:
            self._start(part, positions)
            self._ended.discard((part.topic, part.partition))
        # Assigning anew also drops what the client has fetched already.
        self._consumer.assign(parts)

    def wait(self, seconds: float) -> None:
        """Stay in the group without reading: the heartbeat is the client's, but it wants to be asked now and then."""
        parts = self._consumer.assignment()
        self._consumer.pause(parts)
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            self._consumer.poll(min(left, 0.5))
        parts = self._consumer.assignment()
        self._consumer.resume(parts)
        # A message that a poll above returned would be lost to us: none should, since all were paused.
        self.rewind({_name(part): start for part, start in self._starts.items() if start is not None})

    def at_end(self) -> bool:
        """Return whether every partition of ours was read to its end."""
        return bool(self._starts) and self._starts.keys() <= self._ended

    def lag(self) -> list[Lag]:
        """Return how far each partition is behind the end that the last fetch told of.

        The client's cached watermarks come with every fetch. They are not asked of the broker here: that costs a round
        trip, and some brokers answer it wrongly.
        """
        lags = []
        for part, start in sorted(self._starts.items()):
            try:
                low, high = self._consumer.get_watermark_offsets(self._kafka.TopicPartition(*part), cached=True)
            except self._kafka.KafkaException:
                low, high = -1, -1
            end = max(high, self._ends.get(part, -1))
            waiting = None if end < 0 else max(0, end - (int(start) if start is not None else max(low, 0)))
            sent = self._sent.get(part)
            seconds = max(0.0, time.time() - sent) if waiting and sent else 0.0
            lags.append(Lag(_name(part), start, waiting, round(seconds, 3)))
        return lags

    def look(self, positions: Mapping[str, str]) -> list[Lag]:
        """Return how far these positions are behind the ends that the broker tells of, without joining the group."""
        lags = []
        for topic in self.topics:
            for number in self._look([topic])[topic]:
                part = self._kafka.TopicPartition(topic, number)
                low, high = self._consumer.get_watermark_offsets(part, timeout=CONNECT_SECONDS)
                position = positions.get(_name((topic, number)))
                begin = max(low, int(position or low))
                seconds = self._oldest(topic, number, begin) if high > begin else 0.0
                lags.append(Lag(_name((topic, number)), position, max(0, high - begin), seconds))
        return lags

    def _oldest(self, topic: str, number: int, offset: int) -> float:
        """Return the age in seconds of the message at an offset, read without a group."""
        self._consumer.assign([self._kafka.TopicPartition(topic, number, offset)])
        message = self._consumer.poll(CONNECT_SECONDS)
        if message is None or message.error() is not None:
            return 0.0
        return round(max(0.0, time.time() - message.timestamp()[1] / 1000), 3)

    def close(self) -> None:
        """Leave the group at once, so that others get the partitions without waiting for a timeout."""
        self._consumer.close()


class _Silent:
    """The client's own log: what matters arrives as errors."""

    def log(self, *_: object) -> None:
        """Say nothing."""


def _name(part: Part) -> str:
    return f"{part[0]}[{part[1]}]"


def _part(name: str) -> Part:
    topic, _, number = name.rpartition("[")
    return topic, int(number[:-1])


def gone(partition: str, position: str | int | None) -> GranaryError:
    """Return the error for a position from which on a partition has no messages."""
    return GranaryError(
        f"messages from offset {position} on are no longer in the topic, or it was created again",
        partition,
        "what is gone has to come by another channel; then forget the position: `granary guide runbooks/stream-lag`",
    )
