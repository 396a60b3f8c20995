"""Avro by a schema registry: what can be read is read, and a new version is judged before its first row counts."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from granary.load.contract import ContractBrokenError
from granary.sources.discovery import SOURCES
from granary.sources.spec import Column
from granary.streams.avro import AvroDecoder
from granary.streams.compatibility import contract_schema, incompatibilities
from granary.streams.log import Message
from granary.streams.opening import open_stream
from granary.streams.registry import Registry, RegistryUnavailableError, Schema
from granary.warehouse.errors import GranaryError
from tests.python.support.project.ingestion.events import CARD_SCANS
from tests.python.support.registered_messages import AT, ROW, OneSchema, decode_anything, record, wire
from tests.python.support.stream_servers import TOPIC, Broker, RegistryServer, landed

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.sources.spec import Table
    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]


def table(**changes: Any) -> Table:
    return replace(CARD_SCANS, **changes)


def test_versions_of_a_schema(
    kafka: Broker, registry: RegistryServer, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 1, then 2 (wider, one field more), then 3, whose member is text: its messages are kept apart."""
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", kafka.address(format="avro", registry=registry.url, group="avro"))
    one, two, three = record(), record(member_id="long", till="int"), record(member_id="string")
    ids = [registry.register(f"{TOPIC}-value", schema) for schema in (one, two, three)]
    kafka.send(
        wire(ids[0], one, ROW),
        wire(ids[1], two, ROW | {"event_id": "b", "member_id": 2**40, "till": 3}),
        wire(ids[2], three, ROW | {"event_id": "c", "member_id": "seven"}),
        wire(ids[0], one, ROW | {"event_id": "d"})[:-3],
        wire(ids[0], one, ROW | {"event_id": "e"}) + b"x",
        struct.pack(">bI", 0, 99) + b"whatever",
        b'{"event_id": "json"}',
        wire(ids[0], one, ROW | {"event_id": "f", "door_id": None}),
        wire(ids[0], one, ROW | {"event_id": "g"}),
    )
    counts = open_stream(warehouse, "events").run(once=True)
    assert (counts.rows_loaded, counts.rows_quarantined) == (3, 6)
    assert rows("select event_id, type, occurred_at, member_id, till from raw_events.card_scans order by 1") == [
        ("a", "card_scanned", AT, 7, None),
        ("b", "card_scanned", AT, 2**40, 3),
        ("g", "card_scanned", AT, 7, None),
    ]
    assert rows("select line, column_name, reason from ops.quarantine order by line") == [
        (2, "", "is written with schema 3, whose member_id is retyped"),
        (3, "", "is not a record of its schema: EOFError"),
        (4, "", "has bytes after its record"),
        (5, "", "cannot be read: the registry knows no schema 99"),
        (6, "", "is no Avro in the wire format of a schema registry"),
        (7, "door_id", "is null"),
    ]
    assert rows("select column_name, change, detail from ops.schema_changes order by 1") == [
        ("member_id", "retyped", f"schema 3 of {TOPIC}: int64 was agreed, the schema has string"),
        ("till", "added", "bigint"),
    ]
    assert registry.asked.count("GET /schemas/ids/1") == 1
    assert open_stream(warehouse, "events").check() == [
        f"{TOPIC}-value version 3 cannot be read: column member_id is retyped: int64 was agreed, the schema has string"
    ]


def test_stops_at_an_incompatible_version(
    kafka: Broker, registry: RegistryServer, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A contract that says `retyped="refuse"`: nothing lands, the position stays, and the ledger says why."""
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", kafka.address(format="avro", registry=registry.url, group="stops"))
    strict = replace(SOURCES["events"], tables=(table(retyped="refuse"),))
    monkeypatch.setattr("granary.streams.opening.SOURCES", {"events": strict})
    bad = record(door_id="string")
    kafka.send(wire(registry.register("another-subject", bad), bad, ROW | {"door_id": "x"}))
    with pytest.raises(ContractBrokenError, match="column door_id is retyped: schema 1"):
        open_stream(warehouse, "events").run(once=True)
    assert landed(warehouse) == []
    assert rows("select count(*) from ops.watermarks") == [(0,)]
    assert rows("select column_name, change from ops.schema_changes") == [("door_id", "retyped")]
    # If it is the topic's own subject, the stream does not even begin.
    registry.register(f"{TOPIC}-value", bad)
    with pytest.raises(ContractBrokenError, match="-value version 1"):
        open_stream(warehouse, "events").run(once=True)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"member_id": "long"}, None),
        ({"member_id": ["int", "null", "long"]}, None),
        ({"member_id": "float"}, ("member_id", "retyped", "int64 was agreed, the schema has float")),
        (
            {"member_id": ["null", "long", "string"]},
            ("member_id", "retyped", "int64 was agreed, the schema has string"),
        ),
        ({"member_id": None}, ("member_id", "missing", "the contract has it, the schema has not")),
        ({"occurred_at": "long"}, ("occurred_at", "retyped", "timestamp[us, tz=UTC] was agreed, the schema has long")),
        ({"occurred_at": {"type": "long", "logicalType": "timestamp-micros"}}, None),
        (
            {"occurred_at": {"type": "long", "logicalType": "local-timestamp-micros"}},
            ("occurred_at", "retyped", "timestamp[us, tz=UTC] was agreed, the schema has local-timestamp-micros"),
        ),
        ({"event_id": "bytes"}, None),
        ({"event_id": {"type": "string", "logicalType": "uuid"}}, None),
        ({"event_id": "int"}, ("event_id", "retyped", "string was agreed, the schema has int")),
        ({"till": {"type": "array", "items": "int"}}, None),
    ],
)
def test_compatibility(changes: dict[str, Any], problem: tuple[str, str, str] | None) -> None:
    found = incompatibilities(table(), record(**changes))
    assert [(p.column, p.change, p.detail) for p in found] == ([problem] if problem else [])


def test_contract_columns_that_may_be_missing_or_have_other_names() -> None:
    columns = (
        Column("event_id", pa.string(), "Id.", nullable=False, aliases=("id",)),
        Column("price", pa.float64(), "Price.", missing="null"),
        Column("amount", pa.decimal128(12, 2), "Amount."),
    )
    contract = table(columns=columns)
    amount = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
    written = {
        "type": "record",
        "name": "r",
        "fields": [{"name": "id", "type": "string"}, {"name": "amount", "type": amount}],
    }
    assert incompatibilities(contract, written) == []
    assert contract_schema(contract)["fields"] == [
        {"name": "event_id", "type": "string", "aliases": ["id"]},
        {"name": "price", "type": ["null", "double"], "default": None},
        {"name": "amount", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}]},
    ]
    finer = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3}
    written["fields"][1]["type"] = finer  # type: ignore[index]
    assert [p.column for p in incompatibilities(contract, written)] == ["amount"]


def test_values_of_every_kind(registry: RegistryServer) -> None:
    """Fields that no contract names have the type of the schema; what is nested becomes JSON text."""
    nested = {"type": "record", "name": "shop", "fields": [{"name": "n", "type": "int"}]}
    schema = record(
        price={"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        shop=nested,
        tags={"type": "array", "items": "string"},
        day={"type": "int", "logicalType": "date"},
        mixed=["int", "string"],
        flag="boolean",
    )
    row = ROW | {"price": Decimal("1.50"), "shop": {"n": 1}, "tags": ["ä"], "day": AT.date(), "mixed": 5, "flag": True}
    decoder = AvroDecoder(table(), 10_000, Registry(registry.url))
    schema_id = registry.register("s", schema)
    (decoded,) = decoder.decode(TOPIC, [Message(wire(schema_id, schema, row))])
    assert decoded.rejected == ()
    assert decoded.batch.select(["price", "shop", "tags", "day", "mixed", "flag"]).to_pylist() == [
        {"price": Decimal("1.50"), "shop": '{"n": 1}', "tags": '["ä"]', "day": AT.date(), "mixed": "5", "flag": True}
    ]


def test_times_and_wide_decimals_keep_their_value(registry: RegistryServer) -> None:
    """Nanoseconds are no microseconds, a time of day is text without quotes, 45 digits are a decimal."""
    nanos = {"type": "long", "logicalType": "timestamp-nanos"}
    wide = {"type": "bytes", "logicalType": "decimal", "precision": 45, "scale": 2}
    schema = record(occurred_at=nanos, seen=nanos, opens={"type": "int", "logicalType": "time-millis"}, amount=wide)
    at = 1_489_294_800_123_456_789
    row = ROW | {"occurred_at": at, "seen": at, "opens": AT.time(), "amount": Decimal(10) ** 40}
    decoder = AvroDecoder(table(), 10_000, Registry(registry.url))
    (decoded,) = decoder.decode(TOPIC, [Message(wire(registry.register("n", schema), schema, row))])
    moment = AT.replace(microsecond=123456)
    assert decoded.rejected == ()
    assert decoded.batch.select(["occurred_at", "seen", "opens", "amount"]).to_pylist() == [
        {"occurred_at": moment, "seen": moment, "opens": "05:00:00", "amount": Decimal(10) ** 40}
    ]


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_nothing_that_arrives_stops_the_decoder(values: list[bytes]) -> None:
    schema = Schema("AVRO", json.dumps(record()))
    decode_anything(AvroDecoder(table(), 50, OneSchema(schema)), values, 5)  # type: ignore[arg-type]


def test_registry_protocol(registry: RegistryServer) -> None:
    """References to other subjects, versions, configuration, compatibility, credentials, and a registry that is ill."""
    shop = {"type": "record", "name": "Shop", "fields": [{"name": "n", "type": "int"}]}
    uses = record(shop="Shop")
    uses.pop("namespace")
    registry.register("shop", shop)
    schema_id = registry.register("events/value", uses, [{"name": "Shop", "subject": "shop", "version": 1}])
    client = Registry(registry.url)
    assert client.schema(schema_id).parsed() == [shop, uses]
    out = io.BytesIO(struct.pack(">bI", 0, schema_id))
    out.seek(5)
    fastavro.schemaless_writer(
        out, fastavro.parse_schema(record(shop=shop) | {"namespace": ""}), ROW | {"shop": {"n": 4}}
    )
    (decoded,) = AvroDecoder(table(), 10_000, client).decode(TOPIC, [Message(out.getvalue())])
    assert decoded.batch.column("shop").to_pylist() == ['{"n": 4}']
    found = client.version("events/value")
    assert found is not None
    assert (found.version, found.schema_id) == (1, schema_id)
    assert client.version("nothing") is None
    assert client.level("events/value") == "BACKWARD"
    assert client.can_read("events/value", contract_schema(table())) == (True, ())
    registry.compatible = False
    assert client.can_read("events/value", {}) == (False, ("READER_FIELD_MISSING_DEFAULT_VALUE: member_id",))
    registry.user = "Basic dTpw"  # u:p
    with pytest.raises(GranaryError, match="denies access"):
        Registry(registry.url).schema(1)
    host = registry.url.partition("//")[2]
    assert Registry(f"http://u:p@{host}").schema(1).parsed() == [shop]
    registry.down = True
    with pytest.raises(RegistryUnavailableError, match="answered 500") as caught:
        Registry(f"http://u:p@{host}").schema(1)
    assert "u:p" not in str(caught.value)


def test_times_outside_of_what_a_column_holds(registry: RegistryServer) -> None:
    """An instant in the year 10,000 cannot be a Python datetime: the message is refused, not the batch."""
    schema = record()
    schema_id = registry.register("s", schema)
    late = wire(schema_id, record(occurred_at="long"), ROW | {"occurred_at": 253402300800000})
    fine = wire(schema_id, schema, ROW | {"occurred_at": AT + timedelta(days=1)})
    (decoded,) = AvroDecoder(table(), 10_000, Registry(registry.url)).decode(TOPIC, [Message(late), Message(fine)])
    assert decoded.batch.num_rows == 1
    assert [index for index, _ in decoded.rejected] == [0]
