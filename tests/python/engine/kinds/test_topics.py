"""`granary add-source NAME kafka://…`: the columns of topics, as a schema registry says; and messages land so."""

from __future__ import annotations

import json
from datetime import date, datetime, timezone
from decimal import Decimal
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro
import pytest

from granary.kinds import topics
from granary.scaffold import source as module_of
from granary.scaffold.verify import check
from granary.scaffold.write import files
from granary.streams.opening import open_stream
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.records import sql_type
from tests.python.support.registered_messages import header, message_type
from tests.python.support.stream_servers import registry as run_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.scaffold.plan import PlannedSource
    from granary.warehouse.settings import Settings
    from tests.python.support.stream_servers import Broker, RegistryServer

AVRO = {
    "type": "record", "name": "Order", "namespace": "shop", "doc": "An order, as the shop's pages send it.",
    "fields": [
        {"name": "id", "type": "string", "doc": "The order."},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}},
        {"name": "pieces", "type": "int"},
        {"name": "weight", "type": ["null", "float"], "default": None},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["new", "paid"]}},
        {"name": "before", "type": ["null", "State"], "default": None},
        {"name": "isGift", "type": "boolean", "default": False},
        {"name": "address", "type": {"type": "record", "name": "Place", "fields": [{"name": "zip", "type": "string"}]}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "code", "type": ["int", "string"]},
        {"name": "alarm", "type": {"type": "int", "logicalType": "time-millis"}},
    ],
}  # fmt: skip
ORDER = {
    "id": "o-1", "at": datetime(2024, 2, 29, 22, tzinfo=timezone.utc), "day": date(2024, 2, 29),
    "amount": Decimal("19.90"), "pieces": 3, "weight": None, "state": "paid", "before": "new", "isGift": True,
    "address": {"zip": "04177"}, "tags": ["a"], "code": 7, "alarm": 1000,
}  # fmt: skip

PROTO = """
syntax = "proto3";
import "google/protobuf/timestamp.proto";
message Reading {
  message Meter { string serial = 1; }
  string id = 1;
  google.protobuf.Timestamp at = 2;
  uint64 amount = 3;
  optional double voltage = 4;
  Meter meter = 5;
  repeated string tags = 6;
}
"""

JSON = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "description": "A visit.",
    "type": "object",
    "required": ["id", "at", "pages", "price"],
    "properties": {
        "id": {"type": "string", "description": "The visit."},
        "at": {"type": "string", "format": "date-time"},
        "born": {"type": ["string", "null"], "format": "date"},
        "pages": {"type": "integer"},
        "price": {"type": "number", "multipleOf": 0.01},
        "score": {"type": "number"},
        "ok": {"type": "boolean"},
        "code": {"type": ["string", "integer"]},
        "extra": {},
        "cart": {"type": "object", "properties": {"n": {"type": "integer"}}},
    },
}


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    with run_registry() as found:
        yield found


def columns(planned: PlannedSource) -> dict[str, tuple[str, str]]:
    """Return of each column the type and whether it may be null, or may also be missing."""
    (table,) = planned.tables
    word = {(True, False): "not null", (False, True): "may be missing", (False, False): "may be null"}
    return {one.name: (sql_type(one.type), word[one.required, one.optional]) for one in table.columns}


def address(broker: Broker | None, registry: RegistryServer, kind: str, group: str = "t") -> str:
    more = f"format={kind}&registry={registry.url}"
    return broker.address(format=kind, registry=registry.url, group=group) if broker else f"kafka://127.0.0.1:1?{more}"


def land(planned: PlannedSource, settings: Settings, patch: pytest.MonkeyPatch, names: str) -> list[tuple[Any, ...]]:
    """Run the stream of a source as it was written, and return what has landed."""
    check(planned, files(planned))
    space: dict[str, Any] = {}
    exec(module_of.module(planned), space)
    patch.setattr("granary.streams.opening.SOURCES", {planned.name: space["SOURCE"]})
    for name, value in planned.opening.settings.items():
        patch.setenv(name, value)
    open_stream(settings, planned.name).run(once=True)
    with connect(settings) as connection:
        execute(connection, "set time zone 'UTC'")
        assert query(connection, "select reason from ops.quarantine") == []
        return query(connection, f"select {names} from raw_{planned.name}.{planned.tables[0].name}")


def test_avro(
    kafka_server: Broker, registry: RegistryServer, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = registry.register("shop-orders-value", AVRO)
    planned = topics.inspect("shop", address(kafka_server, registry, "avro", "avro"), keys={"": ("id",)})
    assert columns(planned) == {
        "id": ("text", "not null"), "at": ("timestamp with time zone", "not null"), "day": ("date", "not null"),
        "amount": ("numeric(10,2)", "not null"), "pieces": ("bigint", "not null"),
        "weight": ("double precision", "may be missing"), "state": ("text", "not null"),
        "before": ("text", "may be missing"), "is_gift": ("boolean", "may be missing"),
        "address": ("text", "not null"), "tags": ("text", "not null"),
    }  # fmt: skip
    (table,) = planned.tables
    assert (table.name, table.location, table.disposition, table.contract_key) == (
        "shop_orders", "shop-orders", "append", ("id",),
    )  # fmt: skip
    assert table.description == "An order, as the shop's pages send it."
    assert [note for note in planned.notes if "fits no type" in note] == [
        f"shop_orders: {name}: {what} fits no type that a contract can say: left out of it, and lands as a new column"
        for name, what in (("code", "int, string"), ("alarm", "time-millis"))
    ]
    kafka_server.topic("shop-orders")
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(AVRO), ORDER)
    kafka_server.send(header(number) + out.getvalue(), topic="shop-orders")
    names = "id, at::text, day::text, amount, pieces, weight, state, before, is_gift, address, tags, code, alarm"
    assert land(planned, warehouse, monkeypatch, names) == [
        ("o-1", "2024-02-29 22:00:00+00", "2024-02-29", Decimal("19.90"), 3, None, "paid", "new", True,
         '{"zip": "04177"}', '["a"]', "7", "00:00:01"),
    ]  # fmt: skip


def test_protobuf(
    kafka_server: Broker, registry: RegistryServer, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = registry.register("readings-value", PROTO, kind="PROTOBUF")
    planned = topics.inspect("meters", address(kafka_server, registry, "protobuf", "proto"))
    assert columns(planned) == {
        "id": ("text", "not null"), "at": ("timestamp with time zone", "may be missing"),
        "amount": ("numeric(20,0)", "not null"), "voltage": ("double precision", "may be missing"),
        "meter": ("text", "may be missing"), "tags": ("text", "not null"),
    }  # fmt: skip
    kafka_server.topic("readings")
    reading = message_type(PROTO, "Reading")(id="r-1", amount=2**64 - 1)
    reading.at.FromSeconds(1_709_244_000)
    reading.meter.serial = "m7"
    kafka_server.send(header(number, 0) + reading.SerializeToString(), topic="readings")
    assert land(planned, warehouse, monkeypatch, "id, at::text, amount, voltage, meter, tags") == [
        ("r-1", "2024-02-29 22:00:00+00", Decimal(2**64 - 1), None, '{"serial": "m7"}', "[]"),
    ]  # fmt: skip


def test_json_schema(
    kafka_server: Broker, registry: RegistryServer, warehouse: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = registry.register("visits-value", JSON, kind="JSON")
    planned = topics.inspect("web", address(kafka_server, registry, "jsonschema", "json"))
    assert columns(planned) == {
        "id": ("text", "not null"), "at": ("timestamp with time zone", "not null"), "born": ("date", "may be missing"),
        "pages": ("bigint", "not null"), "price": ("numeric(18,2)", "not null"),
        "score": ("double precision", "may be missing"), "ok": ("boolean", "may be missing"),
        "code": ("text", "may be missing"), "extra": ("text", "may be missing"), "cart": ("text", "may be missing"),
    }  # fmt: skip
    guesses = [note.split(": ", 1)[1] for note in planned.notes]
    assert guesses == [
        "price: a multiple of 0.01: 18 digits are a guess",
        "score: a number without a step (multipleOf): floating point is a guess",
        "code: its schema allows string, integer: text is a guess",
        "extra: its schema does not say what it is: text is a guess",
    ]
    kafka_server.topic("visits")
    visits = [
        {"id": "v-1", "at": "2024-02-29T23:00:00+01:00", "born": None, "pages": 3, "price": 4.5, "score": 0.5,
         "ok": True, "code": 7, "extra": [1], "cart": {"n": 1}},
        {"id": "v-2", "at": "2024-02-29T22:00:00Z", "born": "2000-01-31", "pages": 1, "price": 10, "code": "007"},
    ]  # fmt: skip
    kafka_server.send(*(header(number) + json.dumps(one).encode() for one in visits), topic="visits")
    names = "id, at::text, born::text, pages, price, score, ok, code, extra, cart"
    assert sorted(land(planned, warehouse, monkeypatch, names)) == [
        ("v-1", "2024-02-29 22:00:00+00", None, 3, Decimal("4.50"), 0.5, True, "7", "[1]", '{"n":1}'),
        ("v-2", "2024-02-29 22:00:00+00", "2000-01-31", 1, Decimal("10.00"), None, None, "007", None, None),
    ]  # fmt: skip


def test_only_the_topics_that_are_named(registry: RegistryServer) -> None:
    for topic in ("a", "b"):
        registry.register(f"{topic}-value", AVRO)
    registry.register("a-key", "string")
    registry.register("c-value", PROTO, kind="PROTOBUF")
    planned = topics.inspect("shop", address(None, registry, "avro"))
    assert [table.name for table in planned.tables] == ["a", "b"]
    assert planned.skipped == ("c: it is Protobuf, not Avro",)
    (table,) = topics.inspect("shop", address(None, registry, "avro"), only=["b"]).tables
    assert table.location == "b"


WRONG = [
    ("avro", ["d"], "no topic with a schema 'd'"),
    ("avro", ["c"], "it is Protobuf, not Avro"),
    ("jsonschema", ["flat"], "its schema has no fields"),
    ("json", [], "messages without a schema do not say what their columns are"),
    ("xml", [], "has a format that is none of"),
]


@pytest.mark.parametrize(("kind", "only", "words"), WRONG)
def test_what_cannot_be_is_said(registry: RegistryServer, kind: str, only: list[str], words: str) -> None:
    registry.register("c-value", PROTO, kind="PROTOBUF")
    registry.register("flat-value", {"type": "string"}, kind="JSON")
    with pytest.raises(GranaryError, match=words) as caught:
        topics.inspect("shop", address(None, registry, kind), only=only)
    assert caught.value.todo


def test_a_registry_that_is_away_or_denies_us(registry: RegistryServer) -> None:
    registry.user = "Basic c2VjcmV0"
    with pytest.raises(GranaryError, match=r"the schema registry denies access \(401\)"):
        topics.inspect("shop", address(None, registry, "avro"))
    gone = "kafka://127.0.0.1:1?format=avro&registry=http://me:s3cret@127.0.0.1:1"
    with pytest.raises(GranaryError, match="the schema registry") as caught:
        topics.inspect("shop", gone)
    assert "s3cret" not in str(caught.value)
