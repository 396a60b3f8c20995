"""Queues into raw: whatever is delivered again is known by its id, and acknowledged only after its commit."""

from __future__ import annotations

import json
import re
import socket
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
import pika
import pytest
from google.protobuf.json_format import ParseDict

import granary
from granary.sources.discovery import SOURCES
from granary.streams import opening
from granary.streams.log import Message, Run, UnavailableError
from granary.streams.loop import Limits, StreamLoop
from granary.streams.opening import open_stream
from granary.streams.protobuf import ProtobufDecoder
from granary.streams.pubsub_schemas import ENCODING, NAME, REVISION, PubSubSchemas
from granary.streams.queues import Queues, Received
from granary.warehouse import retention
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from tests.python.engine.chaos.check import ledger_faults
from tests.python.support import queue_servers
from tests.python.support.queue_servers import PubSub, QueueServer, Rabbit, Sqs
from tests.python.support.registered_messages import message_type
from tests.python.support.stream_servers import TOPIC, command, differences, ended, event, landed, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]

KINDS = ("rabbitmq", "sqs", "pubsub")
QUICK = {"rabbitmq": {}, "sqs": {"visibility": 2}, "pubsub": {}}


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[str], QueueServer]]:
    """Return a function that returns the running server of a kind."""
    running: dict[str, QueueServer | None] = {}

    def of(kind: str) -> QueueServer:
        if kind not in running:
            running[kind] = queue_servers.start(kind)
        found = running[kind]
        if found is None:
            pytest.skip(f"the server of {kind} cannot be had here: see tests/python/support/queue_servers.py")
        return found

    yield of
    for one in running.values():
        if one is not None:
            one.stop()


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """Return the kind of queue that a test is about."""
    return str(request.param)


@pytest.fixture
def server(kind: str, servers: Callable[[str], QueueServer], monkeypatch: pytest.MonkeyPatch) -> Iterator[QueueServer]:
    """Return a server with an empty queue that the source `events` reads."""
    found = servers(kind)
    for name, value in queue_servers.AWS.items():
        monkeypatch.setenv(name, value)
    if isinstance(found, Rabbit):
        found.arguments = {}
    if isinstance(found, PubSub):
        found.subscribed = {"ack_deadline_seconds": 2}
    found.make(TOPIC)
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", found.address(**QUICK[kind]))
    yield found
    try:
        found.delete(TOPIC)
    except Exception:  # a test may have deleted it
        if not isinstance(found, (Rabbit, Sqs, PubSub)):
            raise


every = pytest.mark.parametrize("kind", KINDS, indirect=True)
of_rabbit = pytest.mark.parametrize("kind", ["rabbitmq"], indirect=True)
of_sqs = pytest.mark.parametrize("kind", ["sqs"], indirect=True)
of_pubsub = pytest.mark.parametrize("kind", ["pubsub"], indirect=True)


def written(*numbers: int, **changes: object) -> list[tuple[str, bytes]]:
    return [(f"m{number}", json.dumps(event(number, **changes)).encode()) for number in numbers]


def stream(settings: Settings, **limits: float) -> StreamLoop:
    return open_stream(settings, "events", Limits(**{"seconds": 0.1, "patience_seconds": 5} | limits))


def polled(loop: StreamLoop, messages: int) -> list[Run]:
    """Open a stream and poll so many messages, or for a moment."""
    loop.log.open(loop.positions)
    runs = loop.log.poll(max(messages, 1), 30 if messages else 0.1)
    assert sum(len(run.messages) for run in runs) == messages
    return runs


def keyless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the table have no key: an id is all that its messages are known by."""
    source = SOURCES["events"]
    table = replace(source.table("card_scans"), key=())
    monkeypatch.setattr(opening, "SOURCES", {"events": replace(source, tables=(table,))})


@every
def test_messages_land_once_and_poison_is_kept(kind: str, server: QueueServer, warehouse: Settings, rows: Rows) -> None:
    server.send(TOPIC, written(*range(60)))
    server.send(TOPIC, [("p1", b"{"), ("p2", b'"a text"'), ("p3", json.dumps(event(99, member_id="x")).encode())])
    counts = stream(warehouse).run(once=True)
    assert (counts.rows_read, counts.rows_loaded, counts.rows_quarantined) == (63, 60, 3)
    assert counts.known == 0 or kind == "sqs"  # moto gives a message twice when it is asked twice at once
    assert differences(warehouse, [f"e{n}" for n in range(60)]) == (0, 0)
    assert rows("select unit, column_name, payload ->> 'line' from ops.quarantine order by 3, 2") == [
        (TOPIC, "", '"a text"'),
        (TOPIC, "", "{"),
        (TOPIC, "member_id", None),
    ]
    assert rows("select count(*) from ops.known_messages") == [(63,)]
    assert stream(warehouse).run(once=True).rows_read == 0  # all are acknowledged
    lag = stream(warehouse).look()[0]
    assert (lag.partition, lag.messages, lag.seconds) == (TOPIC, None if kind == "pubsub" else 0, lag.seconds)
    assert abs(time.time() - float(rows("select extract(epoch from $1::timestamptz)", lag.position)[0][0])) < 60
    with connect(warehouse) as connection:
        assert not ledger_faults(connection, "events", SOURCES["events"].tables)


@every
def test_what_was_not_acknowledged_is_known(
    kind: str, server: QueueServer, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process commits and dies before it acknowledges; the table has no key by which the rows would be known."""
    keyless(monkeypatch)
    server.send(TOPIC, written(*range(20)))
    first = stream(warehouse)
    first._commit(polled(first, 20))
    server.send(TOPIC, written(20, 21))
    first.log.close()  # as if it had died: what it held comes again
    second = stream(warehouse)
    counts = second.run(once=True)
    assert (counts.rows_loaded, counts.known) == (2, 20)
    assert len(landed(warehouse)) == 22
    assert stream(warehouse).run(once=True).known == 0
    assert rows("select rows_read, rows_loaded from ops.load_audit order by load_id") == [(20, 20), (2, 2)]


@every
def test_nothing_is_acknowledged_that_did_not_land(kind: str, server: QueueServer, warehouse: Settings) -> None:
    server.send(TOPIC, written(*range(10)))
    asked = stream(warehouse)
    polled(asked, 10)
    asked.log.close()
    assert stream(warehouse).run(once=True).rows_loaded == 10


@every
def test_the_warehouse_is_away(
    kind: str, server: QueueServer, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages are held, and the queue is asked for more time, for longer than their deadline."""
    server.send(TOPIC, written(*range(10)))
    away = time.monotonic() + 4
    begin = StreamLoop._begin

    def refuse(loop: StreamLoop) -> Any:
        if time.monotonic() < away:
            raise OSError("away")
        return begin(loop)

    monkeypatch.setattr(StreamLoop, "_begin", refuse)
    counts = stream(warehouse, patience_seconds=30).run(once=True)
    assert (counts.rows_loaded, counts.known) == (10, 0)
    assert counts.retries >= 2
    assert len(landed(warehouse)) == 10


@every
def test_no_such_queue(kind: str, server: QueueServer, warehouse: Settings) -> None:
    server.delete(TOPIC)
    with pytest.raises(GranaryError, match=r"no (such queue|queue|subscription)"):
        stream(warehouse).run(once=True)


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("rabbitmq://127.0.0.1:1?user=u&password=secret", "RabbitMQ does not answer"),
        ("sqs://eu-central-1?endpoint=http://127.0.0.1:1", "SQS does not answer"),
        ("pubsub://project?endpoint=http://127.0.0.1:1", "Pub/Sub does not answer"),
        ("pubsub://project", "no credentials for Pub/Sub"),
        ("rabbitmq://a?user=u&password=secret&prefetch=0", "prefetch is not a number"),
        ("rabbitmq://a?user=u&password=secret&tls=yes", "has a tls that is neither"),
        ("rabbitmq://a?user=u&password=secret&tls=true&ca=/no/file", "certificates of the log.s address cannot"),
        ("sqs://eu-central-1?visibility=0", "visibility is not a number"),
        ("sqs://eu-central-1?password=secret", "has the option password, which sqs has not"),
    ],
)
def test_bad_addresses(warehouse: Settings, monkeypatch: pytest.MonkeyPatch, address: str, what: str) -> None:
    for name, value in queue_servers.AWS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file")
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", address)
    with pytest.raises(GranaryError, match=what) as found:
        stream(warehouse).run(once=True)
    assert "secret" not in str(found.value)


@every
def test_the_worked_example(
    kind: str, server: QueueServer, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spec and the message of docs/engine/sources/queues.md."""
    page = (Path(granary.__file__).parents[1] / "docs" / "engine" / "sources" / "queues.md").read_text()
    spec: dict[str, Any] = {}
    exec(re.findall(r"```py\n(.*?)```", page, re.DOTALL)[0], spec)
    (message,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    source = spec["SOURCE"]
    monkeypatch.setattr(opening, "SOURCES", {source.name: source})
    monkeypatch.setenv("GRANARY_BILLING_STREAM", server.address(**QUICK[kind]))
    server.make("payments")
    server.send("payments", [("m1", message.encode())])
    opening.open_stream(warehouse, "billing", Limits(seconds=0.1)).run(once=True)
    assert rows("select payment_id, cents from raw_billing.payments") == [("p-1", 1250)]
    server.delete("payments")


class Beside(Queues):
    """A queue with two messages beside one that does not answer once."""

    kind = "beside"

    def __init__(self) -> None:
        super().__init__(["full", "away"])
        self.there, self.given_back, self.done = ["m1", "m2"], [], []  # type: ignore[var-annotated]
        self.fails = True

    def _connect(self) -> None:
        pass

    def _receive(self, topic: str, most: int, seconds: float) -> list[Received]:
        if topic == "away":
            if self.fails:
                self.fails = False
                raise UnavailableError("away")
            return []
        found, self.there = self.there[:most], self.there[most:]
        return [Received(name, name.encode(), 1.0, name) for name in found]

    def _acknowledge(self, topic: str, receipts: Any) -> None:
        self.done += receipts

    def _give_back(self, topic: str, receipts: Any) -> None:
        self.given_back += receipts
        self.there += receipts

    def _waiting(self, topic: str) -> int:
        return len(self.there)

    def at_end(self) -> bool:
        return not self.there

    def _hang_up(self) -> None:
        pass


def test_what_was_not_returned_is_not_acknowledged() -> None:
    """One queue gave messages before the next one failed: they go back, and are acknowledged when they landed."""
    queues = Beside()
    queues.open(dict)
    with pytest.raises(UnavailableError):
        queues.poll(9, 0.1)
    assert queues.poll(0, 0) == []
    assert (queues.given_back, queues.there, queues.done) == (["m1", "m2"], ["m1", "m2"], [])
    (run,) = queues.poll(9, 0.05)
    assert (run.ids, run.end) == (("m1", "m2"), "1970-01-01T00:00:01.000+00:00")
    queues.landed([run])
    assert queues.done == ["m1", "m2"]
    queues.close()
    assert queues.given_back == ["m1", "m2"]


def test_pruning_keeps_what_a_queue_may_deliver_again(warehouse: Settings, rows: Rows) -> None:
    """The window ends at the newest message that landed: while a queue is not read, nothing is forgotten."""
    with connect(warehouse) as connection:
        for name, days in (("a", 34), ("b", 36), ("c", 200)):
            execute(
                connection,
                "insert into ops.known_messages (source, table_name, message, landed_at) values ('events',"
                " 'card_scans', cast(md5($1) as uuid), now() - make_interval(days => $2))",
                name,
                days,
            )
        connection.commit()
    retention.prune(warehouse, 1)
    assert rows("select count(*) from ops.known_messages") == [(3,)]
    with connect(warehouse) as connection:
        execute(connection, "insert into ops.watermarks values ('events', 'card_scans', '{}', 1, now())")
        connection.commit()
    retention.prune(warehouse, 90)
    assert rows("select count(*) from ops.known_messages") == [(2,)]
    retention.prune(warehouse, 1)
    assert rows("select count(*) from ops.known_messages") == [(1,)]


# -- RabbitMQ ------------------------------------------------------------------------------------------------------


@of_rabbit
def test_a_message_without_an_id(
    kind: str, server: Rabbit, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is known by its content where a key makes that sound; without a key nothing of it is acknowledged."""
    server.send(TOPIC, [("", body) for _, body in written(1, 2, 2)])
    assert stream(warehouse).run(once=True).rows_loaded == 2
    keyless(monkeypatch)
    server.send(TOPIC, [("", body) for _, body in written(3)])
    with pytest.raises(GranaryError, match=f"a message of {TOPIC} has no id, and the table card_scans no key"):
        stream(warehouse).run(once=True)
    wait_until(lambda: server.ready(TOPIC) == 1, what="the message's return")


@of_rabbit
def test_a_sender_that_sends_again(
    kind: str, server: Rabbit, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the message id, or by the header that the address names."""
    keyless(monkeypatch)
    server.send(TOPIC, [*written(1, 2), *written(2)])
    counts = stream(warehouse).run(once=True)
    assert (counts.rows_loaded, counts.known) == (2, 1)
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", server.address(id="order"))
    with server.server.connect() as connection:
        for order, name in ((7, "x"), (7, "y"), (8, "z")):
            properties = pika.BasicProperties(message_id=name, headers={"order": order})
            connection.channel().basic_publish("", TOPIC, written(order)[0][1], properties)
    assert stream(warehouse).run(once=True).known == 1


@of_rabbit
@pytest.mark.parametrize("queue", ["classic", "quorum"])
def test_dead_letters_of_a_queue_are_a_queue(kind: str, server: Rabbit, warehouse: Settings, queue: str) -> None:
    """A queue of either type that has what another one gave up; more messages than the prefetch."""
    server.arguments = {"x-queue-type": queue}
    server.make(TOPIC)
    with server.server.connect() as connection:
        channel = connection.channel()
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": TOPIC, "x-message-ttl": 0}
        channel.queue_declare("given-up", arguments=arguments)
    server.send("given-up", written(*range(300)))
    wait_until(lambda: server.ready(TOPIC) == 300, what="the dead letters")
    counts = open_stream(warehouse, "events", Limits(rows=70, seconds=0.1)).run(once=True)
    assert (counts.rows_loaded, counts.batches >= 5) == (300, True)
    assert [row[0] for row in landed(warehouse)] == sorted(f"e{n}" for n in range(300))
    server.delete("given-up")


@of_rabbit
def test_the_connection_is_lost_between_commit_and_acknowledgement(
    kind: str, server: Rabbit, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyless(monkeypatch)
    server.send(TOPIC, written(*range(30)))
    reading = stream(warehouse, rows=30)
    commit = StreamLoop._commit

    def cut(loop: StreamLoop, runs: Any) -> None:
        commit(loop, runs)
        if loop.counts.batches == 1:
            loop.log._connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]

    monkeypatch.setattr(StreamLoop, "_commit", cut)
    counts = reading.run(once=True)
    assert (counts.rows_loaded, counts.known) == (30, 30)
    assert server.ready(TOPIC) == 0


@of_rabbit
def test_a_queue_that_is_deleted_meanwhile(kind: str, server: Rabbit, warehouse: Settings) -> None:
    reading = stream(warehouse)
    polled(reading, 0)
    server.delete(TOPIC)

    def poll() -> bool:
        reading._patiently(reading._poll, time.sleep)
        return False

    with pytest.raises(GranaryError, match="no such queue"):
        wait_until(poll, what="the end")
    reading.log.close()


@of_rabbit
def test_wrong_credentials(kind: str, server: Rabbit, warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", server.address(password="not-it"))
    with pytest.raises(GranaryError, match="refuses the user or the password") as found:
        stream(warehouse).run(once=True)
    assert "not-it" not in str(found.value)
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", server.address(vhost="nowhere"))
    with pytest.raises(GranaryError, match="no such virtual host"):
        stream(warehouse).run(once=True)
    ports = server.server.ports
    secured = server.address(tls="true", ca=server.server.authority).replace(f":{ports[0]}", f":{ports[1]}")
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", secured)
    server.send(TOPIC, written(1))
    assert stream(warehouse).run(once=True).rows_loaded == 1


@of_rabbit
def test_huge_messages(kind: str, server: Rabbit, warehouse: Settings, rows: Rows) -> None:
    """They go to the quarantine, and a batch takes no more of them than fit into memory."""
    big = b'{"event_id":"' + b"x" * 9_000_000 + b'"}'
    server.send(TOPIC, [(f"h{n}", big) for n in range(5)] + written(1))
    counts = stream(warehouse).run(once=True)
    assert (counts.rows_loaded, counts.rows_quarantined) == (1, 5)
    assert counts.batches > 1
    assert rows("select distinct reason from ops.quarantine") == [("is larger than 1,048,576 bytes",)]


@of_rabbit
def test_the_command(kind: str, server: Rabbit, warehouse: Settings) -> None:
    server.send(TOPIC, written(*range(5)))
    environment = warehouse.environment()
    shown = ended(command("stream", "events", "--status", "--json", **environment))
    assert shown[0] == 0, shown
    assert json.loads(shown[1])[0]["messages"] == 5
    running = command("stream", "events", "--json", **environment)
    wait_until(lambda: len(landed(warehouse)) == 5, what="the landing")
    running.terminate()
    code, out, _ = ended(running)
    assert code == 0
    assert json.loads(out.splitlines()[-1])["rows_loaded"] == 5


# -- SQS -----------------------------------------------------------------------------------------------------------


@of_sqs
def test_fifo_keeps_the_order_of_its_groups(
    kind: str, server: Sqs, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = opening.SOURCES["events"]
    assert source.stream is not None
    streams = replace(source.stream, topics={"card_scans": "scans.fifo"})
    monkeypatch.setattr(opening, "SOURCES", {"events": replace(source, stream=streams)})
    server.make("scans.fifo")
    server.send("scans.fifo", [("ab"[n % 2] + str(n), json.dumps(event(n)).encode()) for n in range(40)])
    assert stream(warehouse).run(once=True).rows_loaded == 40
    found = [int(str(row[0])[1:]) for row in rows("select event_id from raw_events.card_scans order by _load_id, ctid")]
    assert [n for n in found if n % 2 == 0] == list(range(0, 40, 2))
    assert [n for n in found if n % 2] == list(range(1, 40, 2))
    server.delete("scans.fifo")


# -- Pub/Sub -------------------------------------------------------------------------------------------------------


@of_pubsub
def test_an_exactly_once_subscription_with_ordering(
    kind: str, server: PubSub, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.subscriber.delete_subscription(request={"subscription": server.subscription(TOPIC)})
    server.subscribe(TOPIC, TOPIC, enable_message_ordering=True, enable_exactly_once_delivery=True)
    for key in "ab":
        server.send(TOPIC, written(*range(0 if key == "a" else 500, 30 if key == "a" else 530)), ordering_key=key)
    assert stream(warehouse, rows=17).run(once=True).rows_loaded == 60
    found = [int(str(row[0])[1:]) for row in rows("select event_id from raw_events.card_scans order by _load_id, ctid")]
    assert [n for n in found if n < 500] == list(range(30))
    assert [n for n in found if n >= 500] == list(range(500, 530))


@of_pubsub
def test_messages_that_come_again_by_another_subscription(
    kind: str, server: PubSub, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a seek does, which the emulator cannot: messages that were acknowledged come again under their ids.

    Of a warehouse that lost some of them, as a restored one has, these land, and no other.
    """
    keyless(monkeypatch)
    server.subscribe("again", TOPIC)
    server.send(TOPIC, written(*range(20)))
    stream(warehouse).run(once=True)
    with connect(warehouse) as connection:
        execute(connection, "delete from raw_events.card_scans where event_id in ('e3', 'e4')")
        execute(
            connection,
            "delete from ops.known_messages where message in (select message from ops.known_messages limit 2)",
        )
        connection.commit()
    source = opening.SOURCES["events"]
    assert source.stream is not None
    streams = replace(source.stream, topics={"card_scans": "again"})
    monkeypatch.setattr(opening, "SOURCES", {"events": replace(source, stream=streams)})
    counts = stream(warehouse).run(once=True)
    assert (counts.rows_loaded, counts.known) == (2, 18)
    server.subscriber.delete_subscription(request={"subscription": server.subscription("again")})


@of_pubsub
def test_the_id_of_the_sender(kind: str, server: PubSub, warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher that sends again makes a new message; the attribute that the address names tells that it is none."""
    keyless(monkeypatch)
    server.send(TOPIC, [*written(1), *written(1), *written(2)])
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", server.address(id="sender"))
    counts = stream(warehouse).run(once=True)
    assert (counts.rows_loaded, counts.known) == (2, 1)


@of_pubsub
@pytest.mark.parametrize("encoding", ["BINARY", "JSON"])
def test_messages_of_an_avro_schema(
    kind: str, server: PubSub, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """In either encoding, by the schema that each message names; one that names none is kept in the quarantine."""
    fields = [
        ("event_id", "string"),
        ("type", "string"),
        ("occurred_at", {"type": "long", "logicalType": "timestamp-micros"}),
        ("member_id", ["null", "long"]),
        ("card_id", "long"),
        ("door_id", "int"),
    ]
    schema = {"type": "record", "name": "Scan", "fields": [{"name": n, "type": t} for n, t in fields]}
    name = server.schema(f"scan-{encoding.lower()}", json.dumps(schema))
    server.delete(TOPIC)
    server.publisher.create_topic(
        request={"name": server.topic(TOPIC), "schema_settings": {"schema": name, "encoding": encoding}}
    )
    server.subscribe(TOPIC, TOPIC)
    row = {"event_id": "e1", "type": "card_scanned", "occurred_at": 1_489_294_800_000_000, "card_id": 5, "door_id": 1}
    if encoding == "JSON":
        body = json.dumps({**row, "member_id": {"long": 7}}).encode()
    else:
        stream_of = BytesIO()
        fastavro.schemaless_writer(stream_of, fastavro.parse_schema(schema), {**row, "member_id": 7})
        body = stream_of.getvalue()
    server.send(TOPIC, [("m1", body)])
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", server.address(format="avro"))
    assert stream(warehouse).run(once=True).rows_loaded == 1
    assert rows("select event_id, member_id, card_id, occurred_at::text from raw_events.card_scans") == [
        ("e1", 7, 5, "2017-03-12 05:00:00+00")
    ]
    server.delete(TOPIC)
    server.make(TOPIC)
    server.send(TOPIC, [("m2", b"{}")])
    assert stream(warehouse).run(once=True).rows_quarantined == 1
    assert rows("select reason from ops.quarantine") == [("is no Avro in the wire format of a schema registry",)]


@pytest.mark.parametrize("encoding", ["BINARY", "JSON"])
def test_messages_of_a_protobuf_schema(encoding: str) -> None:
    """In either encoding, as the only type of its file; the emulator has no such schemas."""
    pubsub_v1 = pytest.importorskip("google.pubsub_v1")
    definition = (
        'syntax = "proto3"; import "google/protobuf/timestamp.proto"; message Scan { string event_id = 1;'
        " string type = 2; google.protobuf.Timestamp occurred_at = 3; optional int64 member_id = 4;"
        " int64 card_id = 5; int32 door_id = 6; }"
    )
    schemas = PubSubSchemas(
        lambda _: pubsub_v1.Schema(type_="PROTOCOL_BUFFER", definition=definition), KeyError, OSError
    )
    row = {"eventId": "e1", "type": "card_scanned", "occurredAt": "2017-03-12T05:00:00Z", "cardId": "5", "doorId": 1}
    message = ParseDict(row, message_type(definition, "Scan")())
    body = message.SerializeToString() if encoding == "BINARY" else json.dumps(row).encode()
    attributes = {NAME: "projects/p/schemas/scan", REVISION: "r1", ENCODING: encoding}
    decoder = ProtobufDecoder(SOURCES["events"].table("card_scans"), 1_000, schemas)
    (decoded,) = decoder.decode(TOPIC, [Message(schemas.in_wire_format(body, attributes))])
    (found,) = decoded.batch.to_pylist()
    assert (found["event_id"], found["member_id"], found["card_id"], found["door_id"]) == ("e1", None, 5, 1)
    assert found["occurred_at"].isoformat() == "2017-03-12T05:00:00+00:00"
    assert schemas.in_wire_format(b"{", attributes | {ENCODING: "JSON"}) == b"{"
