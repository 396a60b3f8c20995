"""Streams: how soon an event is in raw at 2,000 a second, and how many a second Kafka and webhooks sustain.

The broker is that of the tests (in memory, on loopback); it shares the machine with Postgres, stream and sender.
An event counts as queryable when the commit that holds it has returned; the clock starts when the client is given it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from granary.cli import output
from granary.streams.loop import Limits
from granary.streams.opening import open_stream
from granary.warehouse import server
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.settings import Settings
from tests.python.support import stream_servers
from tests.python.support.business import the_shop

if TYPE_CHECKING:
    from collections.abc import Iterator

COLUMNS = ("what", "events", "events/s", "median s", "p95 s", "slowest s")
RATE, SECONDS, PARTITIONS = 2_000, 20, 4
SUSTAINED, POSTED = 300_000, 2_000
Row = tuple[object, ...]


def measure() -> list[Row]:
    """Return one row for each measurement, with these `COLUMNS`; the warehouse is that of GRANARY_HOME."""
    settings = Settings.load()
    server.up(settings)
    with the_shop(), stream_servers.broker() as broker:
        return [sustained(settings, broker), *paced(settings, broker), posted(settings)]


def sustained(settings: Settings, broker: stream_servers.Broker) -> Row:
    """Read what waits in the topic as fast as it goes."""
    anew(settings, broker)
    values = (json.dumps(stream_servers.event(n, event_id=f"s{n}")).encode() for n in range(SUSTAINED))
    broker.produce((n % PARTITIONS, value) for n, value in enumerate(values))
    with address(broker.address(group="sustained")):
        stream = open_stream(settings, "events", Limits(rows=10_000))
        commits: list[float] = []
        landed, poll = stream.log.landed, stream.log.poll

        def polled(rows: int, seconds: float) -> Any:
            runs = poll(rows, seconds)
            if runs and not commits:
                commits.append(time.monotonic())  # joining the group is not a work of ours
            return runs

        def noted(runs: Any) -> None:
            landed(runs)
            commits.append(time.monotonic())

        stream.log.poll, stream.log.landed = polled, noted  # type: ignore[method-assign]
        counts = stream.run(once=True)
    took = commits[-1] - commits[0]
    assert counts.rows_loaded == SUSTAINED
    return ("Kafka to raw, as fast as it goes", SUSTAINED, round(SUSTAINED / took), None, None, None)


def paced(settings: Settings, broker: stream_servers.Broker) -> list[Row]:
    """Send at a steady rate and time each event from produce to commit."""
    anew(settings, broker)
    waits: list[float] = []
    with address(broker.address(group="paced")):
        stream = open_stream(settings, "events")
        landed = stream.log.landed

        def noted(runs: Any) -> None:
            now = time.time()
            landed(runs)
            waits.extend(now - message.at for run in runs for message in run.messages)

        stream.log.landed = noted  # type: ignore[method-assign]
        reading = threading.Thread(target=stream.run)
        reading.start()
        stream_servers.wait_until(stream.log.at_end, 30, "the group's join")
        sent = send(broker)
        stream_servers.wait_until(lambda: len(waits) >= sent, 60, "the last event's landing")
        stream.stop()
        reading.join()
    with connect(settings) as connection:
        found = query(connection, "select count(*) from raw_events.card_scans where event_id like 'p%'")
    assert found == [(sent,)]
    return [(f"Kafka to raw, {RATE:,} a second", sent, round(sent / SECONDS), *spread(waits))]


def anew(settings: Settings, broker: stream_servers.Broker) -> None:
    """Make the topic anew, and have the warehouse forget how far it had read the one before."""
    broker.topic(partitions=PARTITIONS)
    with connect(settings) as connection:
        execute(connection, "delete from ops.watermarks where source = 'events'")
        connection.commit()


def send(broker: stream_servers.Broker) -> int:
    """Produce `RATE` events a second for `SECONDS`, in steps of 10 ms; return how many."""
    from confluent_kafka import Producer  # noqa: PLC0415 - an extra

    producer = Producer({"bootstrap.servers": broker.hosts, "linger.ms": 5, "log_level": 2})
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < SECONDS:
        for number in range(sent, int(passed * RATE)):
            value = json.dumps(stream_servers.event(number, event_id=f"p{number}")).encode()
            producer.produce(stream_servers.TOPIC, value, partition=number % PARTITIONS)
            sent = number + 1
        producer.poll(0)
        time.sleep(0.01)
    producer.flush(30)
    return sent


def posted(settings: Settings) -> Row:
    """Post events to a webhook from 16 senders, one event a request, each answered after its commit."""
    from tests.python.support.webhook_sender import serving  # noqa: PLC0415

    waits: list[float] = []

    def post(number: int) -> None:
        began = time.monotonic()
        status, _ = sender.post(stream_servers.event(number, event_id=f"w{number}"))
        assert status == 202  # noqa: PLR2004 - Accepted
        waits.append(time.monotonic() - began)

    with serving(settings) as (sender, _), ThreadPoolExecutor(16) as pool:
        began = time.monotonic()
        list(pool.map(post, range(POSTED)))
        took = time.monotonic() - began
    return ("webhook to raw, 16 senders", POSTED, round(POSTED / took), *spread(waits))


def spread(waits: list[float]) -> tuple[float, float, float]:
    """Return the median, the 95th percentile and the longest of some seconds."""
    parts = quantiles(waits, n=100)
    return round(parts[49], 3), round(parts[94], 3), round(max(waits), 3)


@contextmanager
def address(text: str) -> Iterator[None]:
    """Have the source `events` read this log."""
    name = "GRANARY_EVENTS_STREAM"
    before = os.environ.get(name)
    os.environ[name] = text
    try:
        yield
    finally:
        os.environ.pop(name) if before is None else os.environ.__setitem__(name, before)


if __name__ == "__main__":
    output.table("Streams", COLUMNS, measure())
