"""Rows a second from each kind of log and queue, beside its own client: `python -m bench logs [KIND…]`.

The reference is the plainest fast way: the kind's client reads the same messages, each is parsed as JSON, and they are
copied into a table without a key, a transaction for some thousand; those of a queue are acknowledged after it. No
contract, no ledger, no position, no quarantine: kill it, and rows are lost or double. Both read in turns, in one
process; servers have processes of their own and share the machine. The clock runs from the first messages' arrival to
the last commit, and its acknowledgement: no server is joined or found to be empty in it. The ratio by processors is
that of the seconds which the process and its session in Postgres work: other work on the machine does not change it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import pika
from confluent_kafka import Consumer, TopicPartition

from bench.streams import address
from granary.cli import output
from granary.streams.loop import Limits
from granary.streams.opening import open_stream
from granary.warehouse import server as warehouse
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.settings import Settings
from tests.python.support import log_servers, queue_servers, stream_servers
from tests.python.support.business import the_shop
from tests.python.support.moto_server import AWS, Kinesis
from tests.python.support.stream_servers import TOPIC, event, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.connection import Connection

COLUMNS = ("log or queue", "messages", "rows/s", "client and COPY, rows/s", "ratio", "by processors")
ROWS = 5_000
ROUNDS = 2
READS_A_SECOND = 5
"""Of a shard, which the service allows and moto does not count."""
NAMES = ("event_id", "type", "occurred_at", "member_id", "card_id", "door_id")
PLAIN = (
    "create table if not exists public.plain (event_id text, type text, occurred_at timestamptz, member_id bigint,"
    " card_id bigint, door_id bigint)"
)


@dataclass(frozen=True)
class Kind:
    """A kind with its server: how its topic is made and filled, and how its client reads it."""

    count: int
    server: Any
    fill: Callable[[Any, list[bytes]], None]
    read: Callable[[Any, int], Iterator[list[bytes]]]
    is_queue: bool = False


def values(prefix: str, count: int) -> list[bytes]:
    """Return so many scans as JSON."""
    return [json.dumps(event(number, event_id=f"{prefix}-{number}")).encode() for number in range(count)]


# -- how each is filled ------------------------------------------------------------------------------------------------


def fill_kafka(broker: Any, messages: list[bytes]) -> None:
    """Make the topic anew, in four partitions."""
    broker.topic(partitions=4)
    broker.produce((number % 4, value) for number, value in enumerate(messages))


def fill_log(server: Any, messages: list[bytes]) -> None:
    """Make the topic anew."""
    server.create()
    for start in range(0, len(messages), ROWS):
        server.send(*messages[start : start + ROWS])


def fill_kinesis(server: Any, messages: list[bytes]) -> None:
    """Make the stream anew, in four shards."""
    if TOPIC in server.streams.list_streams()["StreamNames"]:
        server.delete()
    server.create(shards=4)
    server.send(*messages)


def fill_rabbit(server: Any, messages: list[bytes]) -> None:
    """Make the queue anew; nobody confirms each message."""
    server.make(TOPIC)
    with server.server.connect() as connection:
        channel = connection.channel()
        for number, value in enumerate(messages):
            channel.basic_publish("", TOPIC, value, pika.BasicProperties(message_id=f"m{number}-{time.time_ns()}"))
    wait_until(lambda: server.ready(TOPIC) == len(messages), 120, "the last message")


def fill_queue(server: Any, messages: list[bytes]) -> None:
    """Send to the queue, which is empty."""
    server.send(TOPIC, [(f"m{number}", value) for number, value in enumerate(messages)])


# -- how each client reads ---------------------------------------------------------------------------------------------


def read_kafka(broker: Any, count: int) -> Iterator[list[bytes]]:
    """Read all partitions, without a group."""
    consumer = Consumer({"bootstrap.servers": broker.hosts, "group.id": f"plain-{time.time_ns()}", "log_level": 2})
    consumer.assign([TopicPartition(TOPIC, number, 0) for number in range(4)])
    while count > 0:
        found = [bytes(one.value()) for one in consumer.consume(ROWS, 0.25) if one.error() is None]
        count -= len(found)
        yield found
    consumer.close()


def read_kinesis(server: Any, count: int) -> Iterator[list[bytes]]:
    """Read the shards in turn, each as often as the service allows."""
    client = server.streams
    iterators = [
        client.get_shard_iterator(StreamName=TOPIC, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")[
            "ShardIterator"
        ]
        for shard in client.list_shards(StreamName=TOPIC)["Shards"]
    ]
    at = [0.0] * len(iterators)
    while count > 0:
        for number, iterator in enumerate(iterators):
            time.sleep(max(0.0, at[number] + 1 / READS_A_SECOND - time.monotonic()))
            at[number] = time.monotonic()
            answer = client.get_records(ShardIterator=iterator, Limit=ROWS)
            iterators[number] = answer["NextShardIterator"]
            found = [bytes(one["Data"]) for one in answer["Records"]]
            count -= len(found)
            yield found


def read_nats(server: Any, count: int) -> Iterator[list[bytes]]:
    """Pull with a consumer that acknowledges nothing."""
    import nats  # noqa: PLC0415 - an extra
    from nats.js.api import AckPolicy, ConsumerConfig  # noqa: PLC0415

    loop = asyncio.new_event_loop()
    url = f"nats://127.0.0.1:{server.port()}"
    client = loop.run_until_complete(nats.connect(url, user="owner", password=server.password))
    pulls = loop.run_until_complete(
        client.jetstream().pull_subscribe(
            TOPIC, config=ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=300)
        )
    )
    while count > 0:
        found = loop.run_until_complete(pulls.fetch(min(count, ROWS), timeout=120))
        count -= len(found)
        yield [one.data for one in found]
    loop.run_until_complete(client.close())
    loop.close()


def read_redis(server: Any, count: int) -> Iterator[list[bytes]]:
    """Read entries behind the last one."""
    last = "0-0"
    while count > 0:
        ((_, entries),) = server.client.xread({TOPIC: last}, count=ROWS)
        last = entries[-1][0]
        count -= len(entries)
        yield [fields[b"message"] for _, fields in entries]


def consume(connection: Any, count: int, arguments: dict[str, Any], every: int) -> Iterator[list[bytes]]:
    """Have messages of RabbitMQ sent; acknowledge after so many, or (0) when they are committed."""
    channel, arrived = connection.channel(), deque[bytes]()
    tag = 0

    def take(_: Any, method: Any, __: Any, body: bytes) -> None:
        nonlocal tag
        tag = method.delivery_tag
        arrived.append(body)
        if every and tag % every == 0:
            channel.basic_ack(tag, multiple=True)

    channel.basic_qos(prefetch_count=ROWS)
    channel.basic_consume(TOPIC, take, arguments=arguments)
    while count > 0:
        while len(arrived) < min(count, ROWS):
            connection.process_data_events(0.25)
        found = list(arrived)
        arrived.clear()
        count -= len(found)
        yield found
        if not every:
            channel.basic_ack(tag, multiple=True)
    connection.process_data_events(0)


def read_rabbit_stream(server: Any, count: int) -> Iterator[list[bytes]]:
    """Consume from the first message on, and acknowledge as they come: the server wants it, and keeps them."""
    with server.server.connect() as connection:
        yield from consume(connection, count, {"x-stream-offset": "first"}, 500)


def read_rabbit(server: Any, count: int) -> Iterator[list[bytes]]:
    """Consume, and acknowledge what is committed."""
    with server.server.connect() as connection:
        yield from consume(connection, count, {}, 0)


def read_sqs(server: Any, count: int) -> Iterator[list[bytes]]:
    """Receive and delete ten at a time, by eight threads."""
    client, url = server.queues, server.url(TOPIC)

    def receive(_: int) -> list[dict[str, Any]]:
        return list(
            client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=600).get("Messages", [])
        )

    def delete(some: list[dict[str, Any]]) -> None:
        entries = [{"Id": str(number), "ReceiptHandle": one["ReceiptHandle"]} for number, one in enumerate(some)]
        client.delete_message_batch(QueueUrl=url, Entries=entries)

    seen: set[str] = set()  # moto may give a message to two threads
    with ThreadPoolExecutor(8) as team:
        while len(seen) < count:
            messages = {one["MessageId"]: one for some in team.map(receive, range(50)) for one in some}
            found = list(messages.values())
            yield [one["Body"].encode() for one in found if one["MessageId"] not in seen]
            seen |= set(messages)
            list(team.map(delete, [found[start : start + 10] for start in range(0, len(found), 10)]))


def read_pubsub(server: Any, count: int) -> Iterator[list[bytes]]:
    """Pull, and acknowledge what is committed."""
    path = server.subscription(TOPIC)
    while count > 0:
        given = server.subscriber.pull(request={"subscription": path, "max_messages": 1_000}).received_messages
        count -= len(given)
        yield [one.message.data for one in given]
        server.subscriber.acknowledge(request={"subscription": path, "ack_ids": [one.ack_id for one in given]})


# -- measuring ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Took:
    """Seconds by the clock, and of processors: this process and its session in Postgres."""

    clock: float
    work: float


class Watch:
    """A clock, and the processor seconds of this process and of a session; from the first batch on."""

    def __init__(self) -> None:
        """Begin when the first batch is there."""
        self.began: tuple[float, float, float] | None = None

    def look(self, connection: Connection | None) -> Took:
        """Return what has passed since the first look."""
        session = _session_seconds(connection)
        now = (time.monotonic(), time.process_time(), session)
        self.began = self.began or now
        passed = [one - before for one, before in zip(now, self.began, strict=True)]
        return Took(passed[0], passed[1] + passed[2])


def _session_seconds(connection: Connection | None) -> float:
    """Return the processor seconds of a session in Postgres; zero where there is none yet, or no /proc."""
    place = Path(f"/proc/{connection.info.backend_pid}/stat") if connection is not None else None
    if place is None or not place.exists():
        return 0.0
    fields = place.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def theirs(kind: Kind, connection: Connection) -> Took:
    """Return what the client and a plain COPY take."""
    execute(connection, PLAIN)
    execute(connection, "truncate public.plain")
    connection.commit()
    watch, took = Watch(), Took(0, 0)
    for batch in kind.read(kind.server, kind.count):
        if watch.began is None:
            watch.look(connection)
        with connection.cursor() as cursor, cursor.copy(f"copy public.plain ({', '.join(NAMES)}) from stdin") as copy:
            for value in batch:
                row = json.loads(value)
                copy.write_row([row[name] for name in NAMES])
        connection.commit()
        took = watch.look(connection)
    assert query(connection, "select count(distinct event_id) from public.plain") == [(kind.count,)]
    connection.commit()
    return took


def ours(kind: Kind, settings: Settings, connection: Connection) -> Took:
    """Return what the stream takes."""
    execute(connection, "delete from ops.watermarks where source = 'events'")
    connection.commit()
    more = {"group": f"bench-{time.time_ns()}"} if isinstance(kind.server, stream_servers.Broker) else {}
    with address(kind.server.address(**more)):
        stream = open_stream(settings, "events", Limits(rows=ROWS))
        watch, took = Watch(), [Took(0, 0)]
        landed, poll = stream.log.landed, stream.log.poll

        def polled(rows: int, seconds: float) -> Any:
            runs = poll(rows, seconds)
            if runs and watch.began is None:
                watch.look(stream._connect())
            return runs

        def noted(runs: Any) -> None:
            landed(runs)
            took.append(watch.look(stream._connection))

        stream.log.poll, stream.log.landed = polled, noted  # type: ignore[method-assign]
        counts = stream.run(once=True)
    assert counts.rows_loaded == kind.count, counts
    return took[-1]


def compare(name: str, kind: Kind, settings: Settings) -> tuple[object, ...]:
    """Return a row of the result; who begins changes from round to round."""
    rounds: list[tuple[Took, Took]] = []
    with connect(settings) as connection:
        for number in range(ROUNDS):
            messages = values(f"{name}-{number}", kind.count)
            kind.fill(kind.server, messages)
            found: dict[str, Took] = {}
            for turn in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
                if kind.is_queue and found:
                    kind.fill(kind.server, messages)
                found[turn] = ours(kind, settings, connection) if turn == "ours" else theirs(kind, connection)
            rounds.append((found["ours"], found["theirs"]))
            output.line(f"{name}: {found}")
    return (
        name,
        f"{kind.count:,}",
        *(f"{kind.count / median(both[side].clock for both in rounds):,.0f}" for side in (0, 1)),
        f"{median(plain.clock / mine.clock for mine, plain in rounds):.2f}",
        f"{median(plain.work / mine.work for mine, plain in rounds):.2f}",
    )


def main(words: list[str]) -> None:
    """Measure the kinds that are named, or all whose server can be had."""
    settings = Settings.load()
    warehouse.up(settings)
    os.environ.update(AWS)
    rows = []
    with the_shop(), stream_servers.broker() as broker:
        kinds: dict[str, Callable[[], Kind | None]] = {
            "kafka": lambda: Kind(20_000, broker, fill_kafka, read_kafka),
            "kinesis": lambda: Kind(20_000, Kinesis(), fill_kinesis, read_kinesis),
            "nats": lambda: _kind(20_000, log_servers.start("nats"), fill_log, read_nats),
            "redis": lambda: _kind(20_000, log_servers.start("redis"), fill_log, read_redis),
            "rabbitmq-stream": lambda: _kind(
                20_000, log_servers.start("rabbitmq-stream"), fill_log, read_rabbit_stream
            ),
            "rabbitmq": lambda: _kind(20_000, queue_servers.start("rabbitmq"), fill_rabbit, read_rabbit, queue=True),
            "sqs": lambda: _kind(1_000, queue_servers.start("sqs"), fill_queue, read_sqs, queue=True),
            "pubsub": lambda: _kind(5_000, queue_servers.start("pubsub"), fill_queue, read_pubsub, queue=True),
        }
        for name in words or list(kinds):
            kind = kinds[name]()
            if kind is None:
                output.line(f"{name}: its server cannot be had here")
                continue
            try:
                if name in ("sqs", "pubsub"):
                    kind.server.make(TOPIC)
                rows.append(compare(name, kind, settings))
            finally:
                if kind.server is not broker:
                    kind.server.stop()
    output.table(f"Logs and queues, median of {ROUNDS} rounds", COLUMNS, rows)


def _kind(count: int, server: Any, fill: Any, read: Any, *, queue: bool = False) -> Kind | None:
    return None if server is None else Kind(count, server, fill, read, queue)


if __name__ == "__main__":
    main(sys.argv[1:])
