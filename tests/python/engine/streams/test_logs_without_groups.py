"""NATS JetStream, Redis Streams and RabbitMQ streams, on real servers: what each has to do, and what is its own."""

from __future__ import annotations

import ast
import asyncio
import importlib
import json
import signal
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pika
import pytest

from granary.streams.log import TellsTime
from granary.warehouse.errors import GranaryError
from tests.python.support import log_servers
from tests.python.support.proxy import Proxy
from tests.python.support.rabbitmq import in_milliseconds
from tests.python.support.registered_messages import ROW, record, wire
from tests.python.support.stream_servers import (
    TOPIC,
    RegistryServer,
    Running,
    command,
    differences,
    ended,
    event,
    landed,
    positions,
    wait_until,
)
from tests.python.support.streaming import declare, read, refused, stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.settings import Settings
    from tests.python.support.log_servers import LogServer, Nats, Rabbit, Redis

    Rows = Callable[..., list[tuple[object, ...]]]

KINDS = ("nats", "redis", "rabbitmq-stream")
PARTITION = {"nats": f"{TOPIC}[{TOPIC}]", "redis": f"{TOPIC}[0]", "rabbitmq-stream": f"{TOPIC}[0]"}
FIRST = {"nats": 1, "redis": 1, "rabbitmq-stream": 0}
"""The line of a log's first message."""
GONE = "are no longer in the log, or it was created again"


@pytest.fixture(scope="session", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[LogServer]:
    """Return a server of each kind in turn."""
    running = log_servers.start(request.param)
    if running is None:
        pytest.skip(f"there is no server of {request.param} here: install its Debian package")
    yield running
    running.stop()


@pytest.fixture
def log(server: LogServer, monkeypatch: pytest.MonkeyPatch) -> LogServer:
    """Return a server with an empty topic that the source `events` reads."""
    server.create()
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", server.address())
    return server


only = {kind: pytest.mark.parametrize("server", [kind], indirect=True) for kind in KINDS}


def events(first: int, last: int) -> list[dict[str, object]]:
    return [event(number) for number in range(first, last)]


def test_rows_land_once_and_poison_is_kept(
    log: LogServer, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", log.address(max_bytes=300_000))
    log.send(*events(0, 100), event(0), b"\xff\xfe", b"{", event(101, type="card_lost"), b"9" * 300_001, event(102))
    assert read(warehouse) == (106, 102, 4)
    assert differences(warehouse, [f"e{n}" for n in (*range(100), 102)]) == (0, 0)
    place, first = PARTITION[log.kind], FIRST[log.kind]
    assert positions(warehouse) == {f"{log.kind}:{place}": log.position(106)}
    assert rows("select unit, line - $1, column_name, reason from ops.quarantine order by line", first) == [
        (place, 101, "", "is not UTF-8 text"),
        (place, 102, "", "is not JSON: Expecting property name enclosed in double quotes"),
        (place, 103, "type", "is none of card_scanned"),
        (place, 104, "", "is larger than 300,000 bytes"),
    ]
    assert read(warehouse) == (0, 0, 0)
    log.send(*events(103, 110))
    assert read(warehouse) == (7, 7, 0)
    assert positions(warehouse) == {f"{log.kind}:{place}": log.position(113)}


def test_batches_end_after_so_many_messages(log: LogServer, warehouse: Settings) -> None:
    log.send(*events(0, 10))
    counts = stream(warehouse, rows=4, seconds=0.5).run(once=True)
    assert (counts.rows_loaded, counts.batches) == (10, 3)


def test_an_empty_log_is_at_its_end(log: LogServer, warehouse: Settings) -> None:
    assert read(warehouse) == (0, 0, 0)
    assert positions(warehouse) == {}


def test_a_message_as_large_as_a_batch_of_bytes(
    log: LogServer, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes alone, and those around it are not lost."""
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", log.address(max_bytes=20_000_000))
    large = event(1, note="x" * 10_000_000)
    log.send(event(0), large, *events(2, 5))
    assert read(warehouse) == (5, 5, 0)
    assert differences(warehouse, [f"e{n}" for n in range(5)]) == (0, 0)


def test_a_second_reader_is_fenced(log: LogServer, warehouse: Settings) -> None:
    log.send(*events(0, 20))
    slow = stream(warehouse)
    slow.log.open(slow.positions)
    polled: list[Any] = []
    wait_until(lambda: polled or polled.extend(slow.log.poll(100, 0.2)))
    assert read(warehouse) == (20, 20, 0)
    slow._land(polled)
    assert (slow.counts.fenced, slow.counts.rows_read) == (1, 0)
    log.send(event(20))
    again: list[Any] = []
    wait_until(lambda: again or again.extend(slow.log.poll(100, 0.2)))
    assert [(run.start, run.end, len(run.messages)) for run in again] == [(log.position(20), log.position(21), 1)]
    slow._land(again)
    slow.log.close()
    assert slow.counts.rows_read == 1
    assert differences(warehouse, [f"e{n}" for n in range(21)]) == (0, 0)


def test_the_status_reads_nothing_and_a_signal_ends_cleanly(log: LogServer, warehouse: Settings) -> None:
    log.send(*events(0, 3))
    code, out, err = ended(command("stream", "events", "--status", "--json"), 180)
    assert code == 0, err
    (lag,) = json.loads(out)
    assert (lag["partition"], lag["position"], lag["messages"]) == (PARTITION[log.kind], None, 3)
    assert landed(warehouse) == []
    process = command("stream", "events", "--json")
    try:
        wait_until(lambda: len(landed(warehouse)) == 3, 180, "the rows' landing")
        process.send_signal(signal.SIGTERM)
        code, out, err = ended(process, 180)
    finally:
        process.kill()
    assert code == 0, err
    last = json.loads(out.splitlines()[-1])
    assert (last["rows_loaded"], last["retries"]) == (3, 0)
    assert [(lag["messages"], lag["seconds"]) for lag in last["lag"]] == [(0, 0.0)]
    log.send(*events(3, 5))
    assert [(lag.position, lag.messages) for lag in stream(warehouse).look()] == [(log.position(3), 2)]


def test_the_server_is_away_in_mid_read(
    log: LogServer, warehouse: Settings, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    log.send(*events(0, 3_000))
    with Proxy(("127.0.0.1", log.port())) as proxy:
        monkeypatch.setenv("GRANARY_EVENTS_STREAM", log.address(port=proxy.port))
        proxy.cut_after(150_000)
        running = start(rows=200)
        wait_until(lambda: running.loop.counts.retries > 1, what="a second try")
        assert 0 <= len(landed(warehouse)) < 3_000
        proxy.heal()
        wait_until(lambda: len(landed(warehouse)) == 3_000, 60, "the last event's landing")
        proxy.drop()
        log.send(event(3_000))
        wait_until(lambda: len(landed(warehouse)) == 3_001, 60, "an event after another break")
        running.stop()
    assert running.loop.counts.rows_read == 3_001
    assert differences(warehouse, [f"e{n}" for n in range(3_001)]) == (0, 0)


def test_a_log_that_is_not_there_or_goes_away(
    log: LogServer, warehouse: Settings, start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    log.send(*events(0, 3))
    running = start()
    wait_until(lambda: len(landed(warehouse)) == 3)
    log.delete()
    running.thread.join(30)
    assert isinstance(running.error, GranaryError)
    running.error = None
    said = refused(warehouse)
    assert TOPIC in said
    assert "check the source's topics" in said or "fix the source's topics" in said
    assert len(landed(warehouse)) == 3


def test_a_log_that_was_created_again_is_noticed(log: LogServer, warehouse: Settings) -> None:
    log.send(*events(0, 30))
    assert read(warehouse) == (30, 30, 0)
    log.create()
    log.send(*events(30, 35))
    assert GONE in refused(warehouse)
    assert len(landed(warehouse)) == 30


@pytest.mark.parametrize("server", ["nats", "redis"], indirect=True)
def test_messages_that_are_gone_unread_are_noticed_and_those_that_were_read_are_not_missed(
    log: LogServer, warehouse: Settings
) -> None:
    log.send(*events(0, 30))
    assert read(warehouse) == (30, 30, 0)
    log.trim(0)
    assert read(warehouse) == (0, 0, 0)
    log.send(*events(30, 40))
    log.trim(10)
    assert read(warehouse) == (10, 10, 0)
    log.send(*events(40, 50))
    log.trim(9)
    said = refused(warehouse)
    assert GONE in said
    assert PARTITION[log.kind] in said
    assert len(landed(warehouse)) == 40


@only["rabbitmq-stream"]
def test_a_truncated_stream_of_rabbitmq_is_noticed(server: Rabbit, log: Rabbit, warehouse: Settings) -> None:
    """The server removes whole segments, when it begins a new one."""
    server.create(max_length_bytes=600_000, stream_max_segment_size_bytes=500_000)
    log.send(*events(0, 30))
    assert read(warehouse) == (30, 30, 0)
    wait_until(lambda: log.send(b"x" * 400_000) or log.first() > 30, what="the truncation")
    assert GONE in refused(warehouse)
    assert len(landed(warehouse)) == 30


def test_whose_clock_is_told(log: LogServer, warehouse: Settings) -> None:
    reading = stream(warehouse).log
    if isinstance(reading, TellsTime):
        reading.open(dict)
        assert reading.clock() == pytest.approx(time.time(), abs=10)
    assert isinstance(reading, TellsTime) == (log.kind != "rabbitmq-stream")
    reading.close()


@only["rabbitmq-stream"]
def test_a_queue_that_is_no_stream(server: Rabbit, log: Rabbit, warehouse: Settings) -> None:
    server.create(queue_type="classic")
    said = refused(warehouse)
    assert "invalid arg 'x-stream-offset'" in said
    assert "check the source's topics: each is a queue of the type stream" in said


def test_wrong_credentials_and_no_server(log: LogServer, warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", log.address(password="sesame-street"))
    said = refused(warehouse)
    assert "refuses" in said
    assert "sesame-street" not in said
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", log.address(port=1, password="sesame-street"))
    said = refused(warehouse, patience_seconds=0.3)
    assert "gave up after 0.3 s" in said
    assert "does not answer" in said
    assert "sesame-street" not in said


def test_tls(log: LogServer, warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server whose authority is known is read; any other is not."""
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", log.address(tls=True, ca=""))
    assert "TLS fails" in refused(warehouse)
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", log.address(tls=True, ca="/nowhere"))
    assert "the certificates of the log's address cannot be read" in refused(warehouse)
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", log.address(tls=True))
    if log.kind == "nats":  # it has TLS for all its clients or for none, so that this is another server
        log = log._secure()  # type: ignore[attr-defined]
        log.create()
    log.send(event(1))
    assert read(warehouse) == (1, 1, 0)


def test_avro(log: LogServer, registry: RegistryServer, warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    schema = record()
    number = registry.register(f"{TOPIC}-value", schema)
    log.send(wire(number, schema, ROW), wire(number, schema, ROW | {"event_id": "b"}), b"{}")
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", log.address(format="avro", registry=registry.url))
    assert read(warehouse) == (3, 2, 1)
    assert landed(warehouse) == [("a",), ("b",)]


def test_the_example_of_the_page(log: LogServer, warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address, its sender and its command, against this server; and the line that it shows."""
    page = (Path(__file__).parents[4] / "docs/engine/sources/message-logs.md").read_text()
    address = f"{log.kind}://127.0.0.1:"
    part = next(part for part in page.split("\n## ") if address in part)
    port = part.partition(address)[2][:4]
    part = part.replace(port, str(log.port())).replace("sesame", log.password)
    sender = part.partition("```py\n")[2].partition("```")[0]
    libraries = {module: importlib.import_module(module) for module in ("nats", "redis", "pika", "json")}
    code = compile(sender, "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    work = eval(code, libraries | {"event": event})
    if work is not None:
        asyncio.run(work)
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", part.partition("STREAM='")[2].partition("'")[0])
    ended_with, out, err = ended(command("stream", "events", "--once"), 180)
    assert ended_with == 0, err
    assert out.splitlines()[-1] == part.partition("```text\n")[2].partition("\n")[0]


# -- what is of one kind -------------------------------------------------------------------------------------------


@only["nats"]
def test_nats_drops_repeated_publishes_and_forgotten_consumers_are_made_anew(
    server: Nats, log: Nats, warehouse: Settings, start: Callable[..., Running]
) -> None:
    for _ in range(2):
        log.send(*events(0, 10), ids=[f"id-{n}" for n in range(10)])
    running = start()
    wait_until(lambda: len(landed(warehouse)) == 10)

    async def forget(js: Any) -> None:
        for consumer in await js.consumers_info(TOPIC):
            await js.delete_consumer(TOPIC, consumer.name)

    server.run(forget)
    log.send(*events(10, 20))
    wait_until(lambda: len(landed(warehouse)) == 20)
    running.stop()
    assert running.loop.counts.rows_read == 20


@only["nats"]
def test_a_quiet_subject_moves_with_its_stream(
    server: Nats, log: Nats, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others share the stream: its retention may pass where the quiet one was, once we have seen nothing was there."""
    server.create("SHARED", subjects=["shared.>"])
    declare(monkeypatch, {TOPIC: "shared.quiet.*"})
    server.send(*events(0, 2), topic="shared.quiet.a")
    server.send(*[b"{"] * 50, topic="shared.loud")
    assert read(warehouse) == (2, 2, 0)
    (position,) = positions(warehouse).values()
    assert position.startswith("52@")
    server.send(*[b"{"] * 50, topic="shared.loud")
    server.trim(50, topic="SHARED")
    assert read(warehouse) == (0, 0, 0)
    server.send(event(2), topic="shared.quiet.b")
    server.trim(10, topic="SHARED")
    assert read(warehouse) == (1, 1, 0)
    server.send(*events(3, 5), topic="shared.quiet.b")
    server.send(*[b"{"] * 50, topic="shared.loud")
    server.trim(10, topic="SHARED")
    assert GONE in refused(warehouse)
    server.delete("SHARED")


@only["nats"]
def test_a_nats_stream_that_was_created_again_and_has_overtaken_us(log: Nats, warehouse: Settings) -> None:
    log.send(*events(0, 5))
    assert read(warehouse) == (5, 5, 0)
    log.create()
    log.send(*events(5, 25))
    assert GONE in refused(warehouse)


@only["redis"]
def test_entries_of_redis_with_other_fields(
    server: Redis, log: Redis, warehouse: Settings, monkeypatch: pytest.MonkeyPatch, rows: Rows
) -> None:
    """One field is the message; of several, the one that the address names, else all of them as an object."""
    body = json.dumps(event(1))
    server.client.xadd(TOPIC, {"anything": body})
    server.client.xadd(TOPIC, {"event_id": "e2", "door_id": "27"})
    server.client.xadd(TOPIC, {b"\xff": b"1", b"b": b"2"})
    assert read(warehouse) == (3, 1, 2)
    assert rows("select payload from ops.quarantine order by line") == [
        ({"event_id": "e2", "door_id": "27"},),
        ({"base64": "/wAxAGIAMg=="},),
    ]
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", server.address(field="body"))
    server.client.xadd(TOPIC, {"trace": "t", "body": json.dumps(event(3))})
    assert read(warehouse) == (1, 1, 0)


@only["redis"]
def test_deleted_entries_of_redis_are_no_gap_and_a_group_shows_the_lag(
    server: Redis, log: Redis, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", server.address(group="watched"))
    log.send(*events(0, 10))
    names = [name for name, _ in server.client.xrange(TOPIC)]
    server.client.xdel(TOPIC, names[3], names[7])
    assert read(warehouse) == (8, 8, 0)
    log.send(*events(10, 20))
    (group,) = server.client.xinfo_groups(TOPIC)
    assert (group["name"], group["last-delivered-id"], group["lag"]) == (b"watched", names[9], 10)
    server.client.xtrim(TOPIC, maxlen=10, approximate=False)
    assert read(warehouse) == (10, 10, 0)
    (group,) = server.client.xinfo_groups(TOPIC)
    assert (group["entries-read"], group["lag"]) == (20, 0)


@only["redis"]
def test_a_key_of_redis_that_holds_no_stream(server: Redis, log: Redis, warehouse: Settings) -> None:
    server.client.set(TOPIC, "x")
    assert f"the key '{TOPIC}' holds no stream" in refused(warehouse)


@only["rabbitmq-stream"]
def test_headers_that_pika_cannot_read(server: Rabbit, log: Rabbit, warehouse: Settings) -> None:
    with log.server.connect() as connection, in_milliseconds():
        channel = connection.channel()
        channel.confirm_delivery()
        for number in range(3):
            properties = pika.BasicProperties(headers={"sent": datetime.now(timezone.utc)})
            channel.basic_publish("", TOPIC, json.dumps(event(number)).encode(), properties)
    assert read(warehouse) == (3, 3, 0)
    assert read(warehouse) == (0, 0, 0)


@only["rabbitmq-stream"]
def test_a_queue_of_rabbitmq_that_is_no_stream(server: Rabbit, log: Rabbit, warehouse: Settings) -> None:
    log.delete()
    channel = server.connection.channel()
    channel.queue_declare(TOPIC, durable=True)
    assert "each is a queue of the type stream" in refused(warehouse)
    log.delete()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("nats://h?pasword=sesame", "has the option pasword, which nats has not"),
        ("redis://h?tls=yes", "has a tls that is neither true nor false"),
        ("redis://h?db=x", "the db of the log's address is not a number"),
        ("redis://one,two?password=sesame", "names several hosts, and Redis is one"),
        ("rabbitmq-stream://u:sesame@h", "names no host, or more than hosts"),
        ("nats://h:port", "the port of a log's host is not a number"),
    ],
)
def test_wrong_addresses(address: str, words: str, warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", address)
    with pytest.raises(GranaryError) as caught:
        stream(warehouse)
    assert words in str(caught.value)
    assert "sesame" not in str(caught.value)
