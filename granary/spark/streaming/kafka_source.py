"""Kafka as a streaming source of Spark, by its Python Data Source API: Spark's own connector is a jar that PyPI lacks.

Each range of offsets of a partition is a task of its own. A row is a run: consecutive messages of one partition, with
the positions before and behind them, as the ledger wants them. This module is imported by Spark's workers, too.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadLimit, ReadMaxRows, SupportsTriggerAvailableNow

from granary.streams.kafka import CONNECT_SECONDS, DEFAULTS, OURS, gone
from granary.warehouse.errors import GranaryError, missing_package

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NAME = "granary_kafka"
SCHEMA = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("offsets", pa.list_(pa.int64())),
        ("sent", pa.list_(pa.float64())),
        ("messages", pa.list_(pa.binary())),
    ]
)
COLUMNS = (
    "topic string, partition string, start bigint, end bigint,"
    " offsets array<bigint>, sent array<double>, messages array<binary>"
)
RUN_MESSAGES = 1_000
"""Most messages of a row."""
A_LOOK = {"queued.max.messages.kbytes": "64", "fetch.message.max.bytes": "65536"}
"""What a client fetches to learn where partitions end: little."""
SILENCE_SECONDS = 60
"""How long a broker may send nothing of a range that it has."""
Ends = dict[str, int]
"""Partition, as in "clicks[0]" -> offset."""


@dataclass
class Range(InputPartition):
    """The messages of a partition from offset `start` up to `end`, which is not in it."""

    topic: str
    number: int
    start: int
    end: int


class KafkaSource(DataSource):
    """Topics of one source. Its options are `secret` (how to reach the brokers), `topics`, `positions` and `rows`."""

    @classmethod
    def name(cls) -> str:
        """Return the name of the format."""
        return NAME

    def schema(self) -> str:
        """Return the columns of a run."""
        return COLUMNS

    def streamReader(self, schema: object) -> KafkaReader:  # noqa: N802 - Spark's name
        """Return the reader of a query."""
        del schema
        return KafkaReader(self.options)


class KafkaReader(DataSourceStreamReader, SupportsTriggerAvailableNow):
    """Offsets by partition. A query without a checkpoint begins where the warehouse is."""

    def __init__(self, options: Mapping[str, str]) -> None:
        """Take the options; nothing is asked of the broker yet."""
        self.client: dict[str, str] = json.loads(options["secret"])
        self.topics: list[str] = json.loads(options["topics"])
        self.positions: dict[str, str] = json.loads(options["positions"])
        self.rows = int(options["rows"])
        self.target: Ends | None = None

    def initialOffset(self) -> Ends:  # noqa: N802
        """Return where the warehouse is; where it has not begun, the first offset that there is."""
        consumer = consumer_of(self.client)
        try:
            return {name: self._first(consumer, name, part) for name, part in self._parts(consumer).items()}
        finally:
            consumer.close()

    def latestOffset(self, start: Ends, limit: ReadLimit) -> Ends:  # noqa: N802
        """Return where the next batch ends: each partition that is behind has an equal share of the limit."""
        ends = self._ends(start)
        if self.target is not None:
            ends = {name: min(end, self.target.get(name, start[name])) for name, end in ends.items()}
        behind = sum(end > start[name] for name, end in ends.items())
        if isinstance(limit, ReadAllAvailable) or not behind:
            return ends
        share = max(1, self.rows // behind)
        return {name: min(end, start[name] + share) for name, end in ends.items()}

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802
        """Return how many messages a batch may have."""
        return ReadMaxRows(self.rows)

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802
        """Remember where everything that is there now ends."""
        self.target = self._ends({})

    def partitions(self, start: Ends, end: Ends) -> Sequence[InputPartition]:
        """Return a task for each partition that has messages between; a partition may be new."""
        ranges = []
        for name, last in sorted(end.items()):
            topic, _, number = name.rpartition("[")
            begin = start[name] if name in start else self.initialOffset()[name]
            if begin < last:
                ranges.append(Range(topic, int(number[:-1]), begin, last))
        return ranges

    def read(self, partition: Range) -> Iterator[pa.RecordBatch]:
        """Yield the runs of a range; runs without a message stand for offsets that have none.

        Raises:
            GranaryError: messages of the range are gone, or the broker is silent.
        """
        import confluent_kafka as kafka  # noqa: PLC0415 - in the worker

        consumer = consumer_of(self.client)
        name = f"{partition.topic}[{partition.number}]"
        try:
            consumer.assign([kafka.TopicPartition(partition.topic, partition.number, partition.start)])
            begin, gathered = partition.start, []
            for message in _messages(consumer, name, partition.start, partition.end):
                gathered.append(message)
                if len(gathered) == RUN_MESSAGES:
                    yield _run(partition.topic, name, begin, message.offset() + 1, gathered)
                    begin, gathered = message.offset() + 1, []
            if begin < partition.end:
                yield _run(partition.topic, name, begin, partition.end, gathered)
        finally:
            consumer.close()

    # -- what the broker has -----------------------------------------------------------------------------------

    def _parts(self, consumer: Any) -> dict[str, Any]:
        """Return the partitions of all topics by name.

        Raises:
            GranaryError: the broker does not answer, or a topic is not there.
        """
        import confluent_kafka as kafka  # noqa: PLC0415

        parts: dict[str, Any] = {}
        for topic in self.topics:
            try:
                found = consumer.list_topics(topic, timeout=CONNECT_SECONDS).topics[topic]
            except kafka.KafkaException as error:
                raise _away(error.args[0].str(), self.client) from None
            if found.error is not None or not found.partitions:
                where = self.client["bootstrap.servers"]
                raise GranaryError(f"Kafka has no topic {topic!r}", where, "create it, or fix the source's topics")
            parts |= {f"{topic}[{number}]": kafka.TopicPartition(topic, number) for number in sorted(found.partitions)}
        return parts

    def _first(self, consumer: Any, name: str, part: Any) -> int:
        if name in self.positions:
            return int(self.positions[name])
        return int(consumer.get_watermark_offsets(part, timeout=CONNECT_SECONDS)[0])

    def _ends(self, start: Ends) -> Ends:
        """Return the end of every partition, as a fetch at its start tells it; adds partitions that are new to `start`.

        The broker is not asked for its latest offsets: some answer wrongly (see `KafkaLog.lag`).
        """
        import confluent_kafka as kafka  # noqa: PLC0415

        consumer = consumer_of({**self.client, **A_LOOK})
        try:
            parts = self._parts(consumer)
            for name, part in parts.items():
                start.setdefault(name, self._first(consumer, name, part))
                part.offset = start[name]
            consumer.assign(list(parts.values()))
            ends: Ends = {}
            deadline = time.monotonic() + CONNECT_SECONDS
            while ends.keys() < parts.keys():
                message = consumer.poll(0.1)
                if message is None:
                    if time.monotonic() > deadline:
                        raise self._unheard(consumer, {name: parts[name] for name in parts.keys() - ends.keys()})
                    continue
                name = f"{message.topic()}[{message.partition()}]"
                if message.error() is None:
                    high = consumer.get_watermark_offsets(parts[name], cached=True)[1]
                    ends[name] = max(ends.get(name, 0), message.offset() + 1, high)
                elif message.error().code() == kafka.KafkaError._PARTITION_EOF:
                    ends[name] = max(ends.get(name, 0), message.offset())
                else:
                    raise _refused(message.error(), name, start[name])
            return ends
        finally:
            consumer.close()

    def _unheard(self, consumer: Any, parts: Mapping[str, Any]) -> GranaryError:
        """Return why fetches of these partitions are not answered: some brokers say nothing of what they have not."""
        import confluent_kafka as kafka  # noqa: PLC0415

        for name, part in parts.items():
            try:
                high = int(consumer.get_watermark_offsets(part, timeout=CONNECT_SECONDS)[1])
            except kafka.KafkaException as error:
                return _away(error.args[0].str(), self.client)
            if part.offset > high:
                return gone(name, part.offset)
        return _away("no answer to a fetch", self.client)


def client_of(hosts: str, options: Mapping[str, str]) -> dict[str, str]:
    """Return the properties of a client that reads what it is told to, as no member of a group that commits."""
    return {**DEFAULTS, **options, **OURS, "bootstrap.servers": hosts, "group.id": "granary.spark"}


def consumer_of(client: Mapping[str, str]) -> Any:
    """Return a consumer.

    Raises:
        GranaryError: confluent-kafka is not installed, or refuses an option.
    """
    try:
        import confluent_kafka as kafka  # noqa: PLC0415 - an extra
    except ImportError:
        raise missing_package("Kafka", "confluent-kafka", "streams") from None
    try:
        return kafka.Consumer(dict(client))
    except kafka.KafkaException as error:
        words = str(error.args[0].str()).split(" value ")[0]  # they may quote a value
        raise GranaryError(f"Kafka refuses an option: {words}", todo="fix the log's address") from None


def _messages(consumer: Any, name: str, start: int, end: int) -> Iterator[Any]:
    """Yield the messages of a partition from where it is assigned up to an offset."""
    import confluent_kafka as kafka  # noqa: PLC0415

    heard = time.monotonic()
    position = start
    while position < end:
        message = consumer.poll(0.5)
        if message is None:
            if time.monotonic() - heard > SILENCE_SECONDS:
                raise GranaryError(f"Kafka sends nothing of offsets {position} to {end}", name, "check the broker")
            continue
        heard = time.monotonic()
        if message.error() is None:
            position = message.offset() + 1
            if message.offset() < end:
                yield message
        elif message.error().code() == kafka.KafkaError._PARTITION_EOF:
            if message.offset() < end:
                raise _refused(message.error(), name, position)
            position = message.offset()
        else:
            raise _refused(message.error(), name, position)


def _run(topic: str, name: str, start: int, end: int, messages: Sequence[Any]) -> pa.RecordBatch:
    row = {
        "topic": topic,
        "partition": name,
        "start": start,
        "end": end,
        "offsets": [message.offset() for message in messages],
        "sent": [message.timestamp()[1] / 1000 for message in messages],
        "messages": [message.value() for message in messages],
    }
    return pa.RecordBatch.from_pylist([row], schema=SCHEMA)


def _refused(error: Any, name: str, position: int) -> GranaryError:
    import confluent_kafka as kafka  # noqa: PLC0415

    codes = kafka.KafkaError
    if error.code() in (codes._AUTO_OFFSET_RESET, codes.OFFSET_OUT_OF_RANGE, codes._PARTITION_EOF):
        return gone(name, position)
    return GranaryError(f"Kafka: {error.name()}: {error.str()[:200]}", name, "check the broker")


def _away(words: str, client: Mapping[str, str]) -> GranaryError:
    where = client["bootstrap.servers"]
    return GranaryError(f"Kafka does not answer: {words}", where, "check the log's address, and that it is up")
