"""Pub/Sub: what its subscriptions can do, its dead letters, and its schemas."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from io import BytesIO
from typing import TYPE_CHECKING

import fastavro
import pytest
from google.protobuf.json_format import ParseDict

from granary.sources.discovery import SOURCES
from granary.streams.known import digest
from granary.streams.log import Message
from granary.streams.protobuf import ProtobufDecoder
from granary.streams.pubsub_schemas import ENCODING, NAME, REVISION, PubSubSchemas
from granary.warehouse.connection import connect, execute
from tests.python.support.queue_servers import PROJECT, PubSub
from tests.python.support.registered_messages import message_type
from tests.python.support.stream_servers import TOPIC, differences, wait_until
from tests.python.support.streaming import declare, stream, written

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]


of_pubsub = pytest.mark.parametrize("kind", ["pubsub"], indirect=True)


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
def test_a_seek_brings_what_the_warehouse_has_lost(
    kind: str, server: PubSub, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a time and to a snapshot: what was acknowledged comes again, and lands if a restored warehouse has it not."""
    declare(monkeypatch, key=())
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", server.address(id="sender"))
    path = server.subscription(TOPIC)
    server.subscriber.delete_subscription(request={"subscription": path})
    server.subscribe(TOPIC, TOPIC, retain_acked_messages=True)
    server.send(TOPIC, written(*range(20)))
    snapshot = server.subscriber.create_snapshot(
        request={"name": f"projects/{PROJECT}/snapshots/before", "subscription": path}
    )
    stream(warehouse).run(once=True)
    for to in ({"time": datetime.now(timezone.utc) - timedelta(minutes=10)}, {"snapshot": snapshot.name}):
        with connect(warehouse) as connection:
            execute(connection, "delete from raw_events.card_scans where event_id in ('e3', 'e4')")
            for name in ("m3", "m4"):
                lost = str(digest(name, Message(b"")))
                execute(connection, "delete from ops.known_messages where message = cast($1 as uuid)", lost)
            connection.commit()
        server.subscriber.seek(request={"subscription": path, **to})
        counts = stream(warehouse).run(once=True)
        assert (counts.rows_loaded, counts.known) == (2, 18)
        assert differences(warehouse, [f"e{number}" for number in range(20)]) == (0, 0)
    server.subscriber.delete_snapshot(request={"snapshot": snapshot.name})


@of_pubsub
def test_what_a_subscription_has_put_aside(
    kind: str, server: PubSub, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that a consumer would not have, five times: they land from the topic of dead letters, once each."""
    server.publisher.create_topic(request={"name": server.topic("scans")})
    policy = {"dead_letter_topic": server.topic(TOPIC), "max_delivery_attempts": 5}
    server.subscribe("scans", "scans", dead_letter_policy=policy)
    server.send("scans", written(1, 2, 3))
    path = server.subscription("scans")

    def refuse() -> bool:
        request = {"subscription": path, "max_messages": 10, "return_immediately": True}
        given = server.subscriber.pull(request=request).received_messages
        if given:
            receipts = {"subscription": path, "ack_ids": [one.ack_id for one in given], "ack_deadline_seconds": 0}
            server.subscriber.modify_ack_deadline(request=receipts)
        return not given

    wait_until(refuse, what="the end of patience")
    server.send("scans", written(3, 4))
    declare(monkeypatch, {TOPIC: "scans", "given_up": TOPIC}, key=())
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", server.address(id="sender"))
    assert stream(warehouse).run(once=True).rows_loaded == 5
    assert rows("select event_id from raw_events.card_scans order by 1") == [("e3",), ("e4",)]
    assert rows("select event_id from raw_events.given_up order by 1") == [("e1",), ("e2",), ("e3",)]
    server.delete("scans")


@of_pubsub
def test_the_id_of_the_sender(kind: str, server: PubSub, warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher that sends again makes a new message; the attribute that the address names tells that it is none."""
    declare(monkeypatch, key=())
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
