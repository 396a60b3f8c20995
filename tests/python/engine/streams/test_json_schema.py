"""JSON Schema by a schema registry: what a message breaks is told without what it holds."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from granary.load.contract import ContractBrokenError
from granary.sources.spec import Column
from granary.streams import opening
from granary.streams.compatibility import incompatibilities
from granary.streams.json_schema import BASE, JsonSchemaDecoder, Shape
from granary.streams.log import Message
from granary.streams.opening import open_stream
from granary.streams.registry import Registry, Schema, UnknownSchemaError
from tests.python.support.debezium_log import ADDRESS, ITEMS, PostgresLog, source
from tests.python.support.project.ingestion.events import CARD_SCANS
from tests.python.support.registered_messages import OneSchema, decode_anything, header
from tests.python.support.stream_servers import TOPIC, Broker, RegistryServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]

AT = "2017-03-12T05:00:00Z"


def scan(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """Return version 1 of the event's schema, with properties changed, added, or left out (None)."""
    found = {
        "event_id": {"type": "string", "maxLength": 9},
        "type": {"enum": ["card_scanned"]},
        "occurred_at": {"type": "string", "format": "date-time"},
        "member_id": {"type": "integer", "minimum": 1},
        "card_id": {"$ref": "#/definitions/number"},
        "door_id": {"oneOf": [{"type": "null"}, {"type": "integer"}]},
    } | properties
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {name: one for name, one in found.items() if one is not None},
        "required": ["event_id", *required],
        "additionalProperties": False,
        "definitions": {"number": {"type": ["integer", "null"]}},
    }


def written(schema_id: int, event_id: Any, **changes: Any) -> bytes:
    row = {"event_id": event_id, "type": "card_scanned", "occurred_at": AT, "member_id": 7, "card_id": 10, "door_id": 1}
    return header(schema_id) + json.dumps({k: v for k, v in (row | changes).items() if v is not ...}).encode()


def test_versions_of_a_schema(
    kafka: Broker, registry: RegistryServer, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 1, 2 (a new optional field), 3 (a changed type), 4 (a field removed); and what breaks its schema."""
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", kafka.address(format="jsonschema", registry=registry.url, group="js"))
    versions = (scan(), scan(till={"type": "integer"}), scan(member_id={"type": "string"}), scan(door_id=None))
    ids = [registry.register(f"{TOPIC}-value", schema, kind="JSON") for schema in versions]
    kafka.send(
        written(ids[0], "a"),
        written(ids[1], "b", till=3),
        written(ids[2], "c", member_id="seven"),
        written(ids[3], "d", door_id=...),
        written(ids[0], "longer than nine"),
        written(ids[0], "e", member_id=0),
        written(ids[0], "f", ssn="123-45-6789"),
        written(ids[0], "g", occurred_at="yesterday"),
        written(ids[0], ...),
        header(ids[0]) + b'{"event_id": "i", "event_id": "j"}',
        header(ids[0]) + b"[]",
        header(99) + b"{}",
        b"{}",
        written(ids[0], "k", door_id=None),
        written(ids[0], "z"),
    )
    counts = open_stream(warehouse, "events").run(once=True)
    assert (counts.rows_loaded, counts.rows_quarantined) == (3, 12)
    assert rows("select event_id, member_id, till from raw_events.card_scans order by 1") == [
        ("a", 7, None), ("b", 7, 3), ("z", 7, None),
    ]  # fmt: skip
    assert rows("select column_name, reason from ops.quarantine order by line") == [
        ("", "is written with schema 3, whose member_id is retyped"),
        ("", "is written with schema 4, whose door_id is missing"),
        ("", "breaks its schema at event_id: maxLength"),
        ("", "breaks its schema at member_id: minimum"),
        ("", "breaks its schema at its top: additionalProperties"),
        ("", "breaks its schema at occurred_at: format"),
        ("", "breaks its schema at its top: required event_id"),
        ("", "names the field 'event_id' twice"),
        ("", "is not a JSON object"),
        ("", "cannot be read: the registry knows no schema 99"),
        ("", "is no JSON Schema in the wire format of a schema registry"),
        ("door_id", "is null"),
    ]
    assert rows("select column_name, change from ops.schema_changes order by 1") == [
        ("door_id", "missing"), ("member_id", "retyped"), ("till", "added"),
    ]  # fmt: skip
    assert open_stream(warehouse, "events").check() == [
        f"{TOPIC}-value version 4 cannot be read: column door_id is missing: the contract has it, the schema has not"
    ]


def test_a_contract_that_refuses_another_type_stops(registry: RegistryServer) -> None:
    schema_id = registry.register("s", scan(door_id={"type": "boolean"}), kind="JSON")
    decoder = JsonSchemaDecoder(replace(CARD_SCANS, retyped="refuse"), 1_000, Registry(registry.url))
    with pytest.raises(ContractBrokenError, match="door_id is retyped: schema 1"):
        decoder.decode(TOPIC, [Message(written(schema_id, "a"))])


def test_references(registry: RegistryServer) -> None:
    """To another subject, which refers to a third; nobody is asked for what the registry does not have."""
    registry.register("town", {"type": "object", "properties": {"people": {"type": "integer"}}}, kind="JSON")
    door = {"type": "object", "properties": {"town": {"$ref": "town.json"}}, "required": ["town"]}
    registry.register("door", door, [{"name": "town.json", "subject": "town", "version": 1}], kind="JSON")
    schema = scan(door={"$ref": "door.json"}) | {"$id": "http://127.0.0.1:1/schemas/scan.json"}
    schema_id = registry.register("s", schema, [{"name": "door.json", "subject": "door", "version": 1}], kind="JSON")
    lost = registry.register("lost", scan(door={"$ref": "http://127.0.0.1:1/nowhere.json"}), kind="JSON")
    decoder = JsonSchemaDecoder(CARD_SCANS, 1_000, Registry(registry.url))
    good, bad = ({"town": {"people": people}} for people in (5, "five"))
    found = decoder.decode(
        TOPIC, [Message(written(i, "a", door=door)) for i, door in ((schema_id, good), (schema_id, bad), (lost, good))]
    )
    assert found[0].batch.column("door").to_pylist() == ['{"town":{"people":5}}']
    assert [bad.reason for decoded in found for _, bad in decoded.rejected] == [
        "breaks its schema at door.town.people: type",
        "cannot be read: schema 4: it is not a JSON Schema, or refers to one that the registry does not give",
    ]


@pytest.mark.parametrize(
    ("schema", "column", "problem"),
    [
        ({"type": "string", "format": "date-time"}, pa.timestamp("us", tz="UTC"), None),
        ({"type": "string"}, pa.decimal128(9, 2), None),
        ({"type": "integer"}, pa.int64(), None),
        ({"type": ["null", "integer"]}, pa.float64(), None),
        ({"type": "number"}, pa.int64(), "number"),
        ({"type": "integer"}, pa.string(), "integer"),
        ({"type": ["string", "integer"]}, pa.string(), "integer"),
        ({"type": "object"}, pa.string(), None),
        ({"anyOf": [{"const": True}, {"type": "null"}]}, pa.bool_(), None),
        ({"allOf": [{"type": "array"}]}, pa.int64(), "array"),
        ({}, pa.int64(), None),
        (True, pa.int64(), None),
        ({"$ref": "#/nowhere"}, pa.int64(), None),
    ],
)
def test_compatibility(schema: Any, column: pa.DataType, problem: str | None) -> None:
    table = replace(CARD_SCANS, columns=(Column("x", column, "X."),), key=(), partition=None)
    root = {"properties": {"x": schema}}
    found = incompatibilities(table, {"type": "record", "fields": [*Shape({BASE: root}, BASE).fields(root)]})
    assert [p.detail for p in found] == ([f"{column} was agreed, the schema has {problem}"] if problem else [])


@pytest.mark.parametrize("schema", ["not json", "5", '{"type": "nonsense"}', '{"pattern": "("}'])
def test_what_is_no_schema(schema: str) -> None:
    decoder = JsonSchemaDecoder(CARD_SCANS, 100, None)  # type: ignore[arg-type]
    with pytest.raises(UnknownSchemaError, match="is not"):
        decoder.compiled(Schema("JSON", schema), ())


def test_a_pattern_made_to_be_slow() -> None:
    """Backtracking would take longer than the sun lasts."""
    schema = {"properties": {"x": {"type": "string", "pattern": "^(a+)+$"}}}
    decoder = JsonSchemaDecoder(CARD_SCANS, 10_000, None, judged=False)  # type: ignore[arg-type]
    read = decoder.compiled(Schema("JSON", json.dumps(schema)), ()).read
    with pytest.raises(ValueError, match="breaks its schema at x: pattern"):
        read(memoryview(json.dumps({"x": "a" * 5_000 + "!"}).encode()))


def test_envelopes_of_debezium(
    kafka: Broker, registry: RegistryServer, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Kafka Connect's converter writes their schema: what a number means is in its title."""
    made = {"type": "integer", "title": "io.debezium.time.MicroTimestamp", "connect.type": "int64"}
    price = {
        "type": "string",
        "title": "org.apache.kafka.connect.data.Decimal",
        "connect.type": "bytes",
        "connect.parameters": {"scale": "2"},
    }
    row = {
        "type": "object",
        "properties": {
            "id": {"type": "integer", "connect.type": "int64"},
            "name": {"oneOf": [{"type": "null"}, {"type": "string"}]},
            "price": {"oneOf": [{"type": "null"}, price]},
            "made": made,
        },
    }
    envelope = {"properties": {name: {"oneOf": [{"type": "null"}, row]} for name in ("before", "after")}}
    schema_id = registry.register("items-value", envelope, kind="JSON")
    kafka.topic("items")
    monkeypatch.setattr(opening, "SOURCES", {"cdc": source(ITEMS)})
    monkeypatch.setenv(ADDRESS, kafka.address(format="jsonschema", registry=registry.url, group="djs"))
    change = PostgresLog(committed=1).envelope("c", None, {"id": 1, "name": "a", "price": "AJY=", "made": 1_500_000})
    kafka.send(header(schema_id) + json.dumps(change).encode(), topic="items")
    open_stream(warehouse, "cdc").run(once=True)
    assert rows("select id, name, price, made from raw_cdc.items") == [
        (1, "a", Decimal("1.50"), datetime(1970, 1, 1, 0, 0, 1, 500_000)),  # noqa: DTZ001 - in no zone
    ]


_FUZZED = JsonSchemaDecoder(CARD_SCANS, 50, OneSchema(Schema("JSON", json.dumps(scan()))))  # type: ignore[arg-type]


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_nothing_that_arrives_stops_the_decoder(values: list[bytes]) -> None:
    decode_anything(_FUZZED, values, 5)
