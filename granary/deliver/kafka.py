"""A topic of Kafka: a message per row, its key the key columns, a tombstone for a row that is gone.

A batch is a transaction, and each message names its batch in a header. Before a batch is sent first, the ledger keeps
where the topic's partitions end. If a process dies, the next one takes over its transactional id, by which the broker
ends what was begun and lets the dead one write nothing more; it reads what came since then, and sends only what is
missing. Readers have `isolation.level=read_committed`.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from granary.streams.address import parse
from granary.warehouse.errors import GranaryError, TransientError, missing_package
from granary.warehouse.faults import fault_point

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.deliver.records import Batch, Row
    from granary.deliver.spec import Topic

SECONDS = 30
HEADER = "granary-batch"
TODO = "check the topic's address, and that the brokers are up; then run `granary deliver` again: nothing is lost"
OURS = {"enable.idempotence": True, "acks": "all", "log_level": 2}
NOT_A_PRODUCERS = frozenset({"session.timeout.ms", "heartbeat.interval.ms"})
"""Options that only consumers have: the address may be one that a source reads, too."""


class KafkaSender:
    """Sends to a topic."""

    is_apart = False

    def __init__(self, target: Topic, name: str) -> None:
        """Prepare a client; nothing is asked of the broker yet.

        Raises:
            GranaryError: confluent-kafka is not installed, or the address is none.
        """
        try:
            import confluent_kafka as kafka  # noqa: PLC0415 - an extra, and 30 ms
        except ImportError:
            raise missing_package("Kafka", "confluent-kafka", "streams") from None
        address = parse(target.address, f"the address of delivery {name}")
        if address.kind != "kafka":
            raise GranaryError(f"{address.kind} is no place that deliveries go to", f"delivery {name}", "name a Kafka")
        if address.format != "json":
            todo = "leave format and registry out of its address"
            raise GranaryError("a delivery writes JSON only", f"delivery {name}", todo)
        self._kafka, self.topic, self.name = kafka, target.topic, name
        self.where = f"{address.hosts}, topic {target.topic}"
        given = {key: value for key, value in address.options.items() if key not in NOT_A_PRODUCERS}
        self._options = {**given, "bootstrap.servers": address.hosts, "logger": _Silent()}
        self._most = int(given.get("message.max.bytes", address.max_bytes))
        self._producer: Any = None

    def check(self, columns: Mapping[str, str]) -> None:
        """Begin as the only one who sends this delivery.

        Raises:
            GranaryError: the broker does not answer, refuses us, or has no such topic.
        """
        if self._producer is not None:
            return
        with self._reader() as reader, self._explained():  # a producer that asks for a topic would make it
            found = reader.list_topics(self.topic, timeout=SECONDS).topics[self.topic]
        if found.error is not None or not found.partitions:
            raise GranaryError(f"Kafka has no topic {self.topic!r}", self.where, "create it, or correct its name")
        self._parts = sorted(found.partitions)
        with self._explained():
            self._producer = self._kafka.Producer(
                {**self._options, **OURS, "transactional.id": f"granary-{self.name}-{self.topic}"}
            )
            self._producer.init_transactions(SECONDS)

    def position(self) -> str | None:
        """Return where each partition ends."""
        with self._reader() as reader:
            return json.dumps({part: self._ends(reader, part) for part in self._parts})

    def send(self, batch: Batch) -> list[tuple[Row, str]]:
        """Send what the topic does not have of a batch, in one transaction."""
        rows, refused = [], []
        for row in batch.rows:
            if len(row.key.encode()) + len((row.payload or "").encode()) > self._most - 512:
                refused.append((row, f"it is larger than the {self._most} bytes that a message may have"))
            else:
                rows.append(row)
        there = self._there(batch) if batch.status == "sending" else set()
        missing = [row for row in rows if row.key not in there]
        if not missing:
            return refused
        failed: list[str] = []
        with self._explained():
            self._producer.begin_transaction()
            for row in missing:
                self._produce(batch, row, failed)
                fault_point("deliver-message")
            self._producer.flush(SECONDS)
            if failed:
                self._producer.abort_transaction(SECONDS)
                raise TransientError(f"Kafka takes no message: {failed[0]}", self.where, TODO)
            self._producer.commit_transaction(SECONDS)
        return refused

    def send_row(self, batch: Batch, row: Row) -> None:
        """Never asked for: batches are sent."""
        raise NotImplementedError

    def close(self) -> None:
        """Hang up."""
        self._producer = None

    def _produce(self, batch: Batch, row: Row, failed: list[str]) -> None:
        def heard(error: Any, _: object) -> None:
            if error is not None:
                failed.append(str(error.name()))

        value = None if row.op == "delete" else (row.payload or "").encode()
        headers = [(HEADER, batch.id.encode()), ("granary-op", row.op.encode())]
        while True:
            try:
                self._producer.produce(self.topic, value, row.key.encode(), headers=headers, on_delivery=heard)
            except BufferError:
                self._producer.poll(0.1)
            else:
                self._producer.poll(0)
                return

    def _there(self, batch: Batch) -> set[str]:
        """Return the keys of a batch that the topic has, after the position that the ledger kept."""
        found: set[str] = set()
        ends = time.monotonic() + SECONDS
        with self._reader() as reader, self._explained():
            starts = {int(part): int(at) for part, at in json.loads(batch.position or "{}").items()}
            open_parts = {part for part in self._parts if self._ends(reader, part) > starts.get(part, 0)}
            reader.assign([self._kafka.TopicPartition(self.topic, part, starts.get(part, 0)) for part in open_parts])
            while open_parts:
                if time.monotonic() > ends:
                    raise TransientError("Kafka does not give what was sent", self.where, TODO)
                message = reader.poll(0.2)
                if message is None:
                    continue
                if message.error():
                    if message.error().code() != self._kafka.KafkaError._PARTITION_EOF:
                        raise self._kafka.KafkaException(message.error())
                    open_parts.discard(message.partition())
                elif (HEADER, batch.id.encode()) in (message.headers() or []):
                    found.add(message.key().decode())
        return found

    def _ends(self, reader: Any, part: int) -> int:
        with self._explained():
            _, high = reader.get_watermark_offsets(self._kafka.TopicPartition(self.topic, part), SECONDS)
        return int(high)

    def _reader(self) -> Any:
        return _Closing(
            self._kafka.Consumer(
                {
                    **{key: value for key, value in self._options.items() if key != "message.max.bytes"},
                    "group.id": f"granary-{self.name}",
                    "isolation.level": "read_committed",
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "log_level": 2,
                }
            )
        )

    def _explained(self) -> Any:
        return _Explained(self._kafka, self.where)


class _Closing:
    def __init__(self, reader: Any) -> None:
        self.reader = reader

    def __enter__(self) -> Any:
        return self.reader

    def __exit__(self, *_: object) -> None:
        with suppress(Exception):  # what was read is read
            self.reader.close()


class _Explained:
    """Turns the client's errors into words; those of an option may quote its value."""

    def __init__(self, kafka: Any, where: str) -> None:
        self.kafka, self.where = kafka, where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, self.kafka.KafkaException):
            words = str(error.args[0].str()).split(" value ")[0][:200]
            raise TransientError(f"Kafka refuses it: {words}", self.where, TODO) from None


class _Silent:
    """The client's own log: what matters arrives as errors."""

    def log(self, *_: object) -> None:
        """Say nothing."""
