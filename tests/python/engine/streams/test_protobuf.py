"""Protobuf by a schema registry: what can be read is read, and source text from outside reaches nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from granary.load.contract import ContractBrokenError
from granary.sources.spec import Column
from granary.streams import proto_source
from granary.streams.compatibility import incompatibilities
from granary.streams.log import Message
from granary.streams.opening import open_stream
from granary.streams.protobuf import ProtobufDecoder
from granary.streams.registry import Registry, Schema, UnknownSchemaError
from tests.python.support.project.ingestion.events import CARD_SCANS
from tests.python.support.registered_messages import AT, OneSchema, decode_anything, header, message_type
from tests.python.support.stream_servers import TOPIC, Broker, RegistryServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]

ROOT = Path(__file__).parents[4]
SCAN = """
syntax = "proto3";
package doors;
import "google/protobuf/timestamp.proto";
enum Kind {{ card_scanned = 0; }}
message Scan {{
  string event_id = 1;
  Kind type = 2;
  google.protobuf.Timestamp occurred_at = 3;
  {member} member_id = 4;
  int64 card_id = 5;
  optional int32 door_id = 6;
  {more}
}}
"""


def scan(member: str = "int32", more: str = "") -> str:
    return SCAN.format(member=member, more=more)


def written(schema: str, schema_id: int, event_id: str, **changes: Any) -> bytes:
    values = {"event_id": event_id, "occurred_at": AT, "member_id": 7, "card_id": 10, "door_id": 1} | changes
    made = message_type(schema, "doors.Scan")(**values)
    return header(schema_id, 0) + bytes(made.SerializeToString())


def test_versions_of_a_schema(
    kafka: Broker, registry: RegistryServer, warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 1, then 2 (wider, one field more), then 3, whose member is text: its messages are kept apart."""
    monkeypatch.setenv("GRANARY_EVENTS_STREAM", kafka.address(format="protobuf", registry=registry.url, group="proto"))
    one, two, three = scan(), scan("int64", "int32 till = 7;"), scan("string")
    ids = [registry.register(f"{TOPIC}-value", schema, kind="PROTOBUF") for schema in (one, two, three)]
    avro = registry.register("another", {"type": "string"})
    kafka.send(
        written(one, ids[0], "a"),
        written(two, ids[1], "b", member_id=2**40, till=3),
        written(three, ids[2], "c", member_id="seven"),
        written(one, ids[0], "d")[:-1],
        written(one, ids[0], "e") + b"\x48\x01",
        header(99, 0),
        header(avro, 0),
        header(ids[0], 1, 5),
        b'{"event_id": "json"}',
        written(one, ids[0], "f", door_id=None),
        written(one, ids[0], "g"),
    )
    counts = open_stream(warehouse, "events").run(once=True)
    assert (counts.rows_loaded, counts.rows_quarantined) == (3, 8)
    assert rows("select event_id, type, occurred_at, member_id, till from raw_events.card_scans order by 1") == [
        ("a", "card_scanned", AT, 7, None),
        ("b", "card_scanned", AT, 2**40, 3),
        ("g", "card_scanned", AT, 7, None),
    ]
    assert rows("select line, column_name, reason from ops.quarantine order by line") == [
        (2, "", "is written with schema 3, whose member_id is retyped"),
        (3, "", "is not a message of its schema"),
        (4, "", "has the field number 9, which its schema does not have"),
        (5, "", "cannot be read: the registry knows no schema 99"),
        (6, "", "cannot be read: schema 4 is Avro, not Protobuf"),
        (7, "", "cannot be read: schema 1: it has no message [5]"),
        (8, "", "is no Protobuf in the wire format of a schema registry"),
        (9, "door_id", "is null"),
    ]
    assert rows("select column_name, change, detail from ops.schema_changes order by 1") == [
        ("member_id", "retyped", f"schema 3 of {TOPIC}: int64 was agreed, the schema has string"),
        ("till", "added", "bigint"),
    ]
    assert open_stream(warehouse, "events").check() == [
        f"{TOPIC}-value version 3 cannot be read: column member_id is retyped: int64 was agreed, the schema has string"
    ]


def test_a_contract_that_refuses_another_type_stops(registry: RegistryServer) -> None:
    schema_id = registry.register("s", scan("string"), kind="PROTOBUF")
    decoder = ProtobufDecoder(replace(CARD_SCANS, retyped="refuse"), 1_000, Registry(registry.url))
    with pytest.raises(ContractBrokenError, match="member_id is retyped: schema 1"):
        decoder.decode(TOPIC, [Message(written(scan("string"), schema_id, "a", member_id="x"))])


EVERYTHING = """
syntax = "proto3";
package kinds;
import "confluent/type/decimal.proto";
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
import "google/type/date.proto";
import "google/type/timeofday.proto";
import "parts/shop.proto";
enum Colour { UNKNOWN = 0; RED = 1; }
message Outer {
  message Inner {
    message Every {
      int64 id = 1;
      uint64 most = 2;
      sint64 least = 3;
      fixed32 unsigned = 4;
      double ratio = 5;
      bool flag = 6;
      bytes raw = 7;
      Colour colour = 8;
      string text = 9;
      optional string maybe = 10;
      oneof choice { int32 number = 11; string word = 12; }
      repeated int32 many = 13;
      repeated google.protobuf.Timestamp times = 14;
      map<string, bytes> by_name = 15;
      map<bool, parts.Shop> by_flag = 16;
      parts.Shop shop = 17;
      google.protobuf.Timestamp at = 18;
      google.protobuf.Duration took = 19;
      google.protobuf.Int64Value wrapped = 20;
      google.protobuf.StringValue unset = 21;
      google.protobuf.Struct free = 22;
      google.type.Date day = 23;
      google.type.TimeOfDay opens = 24;
      confluent.type.Decimal price = 25;
      Every again = 26;
    }
  }
}
message First {}
"""
SHOP = 'syntax = "proto3"; package parts; import "parts/town.proto"; message Shop { string name = 1; Town town = 2; }'
TOWN = 'syntax = "proto3"; package parts; message Town { uint64 people = 1; }'
REFERENCES = (("parts/town.proto", TOWN), ("parts/shop.proto", SHOP))


def test_values_of_every_kind(registry: RegistryServer) -> None:
    """Extremes, presence, what is nested as JSON, well-known types, references, and a type nested in others."""
    registry.register("town", TOWN, kind="PROTOBUF")
    registry.register("shop", SHOP, [{"name": "parts/town.proto", "subject": "town", "version": 1}], kind="PROTOBUF")
    schema_id = registry.register(
        "every", EVERYTHING, [{"name": "parts/shop.proto", "subject": "shop", "version": 1}], kind="PROTOBUF"
    )
    every = message_type(EVERYTHING, "kinds.Outer.Inner.Every", REFERENCES)
    full = every(
        id=-(2**63), most=2**64 - 1, least=2**63 - 1, unsigned=2**32 - 1, ratio=0.1, flag=True, raw=b"\xff", colour=1,
        text="ä", word="w", many=[1, -1], by_name={"k": b"\0"}, by_flag={True: {"name": "s"}},
        shop={"name": "n", "town": {"people": 2**64 - 1}}, wrapped={"value": 0}, again={"id": 4},
    )  # fmt: skip
    full.at.FromJsonString("9999-12-31T23:59:59.999999999Z")
    full.times.add().FromJsonString("0001-01-01T00:00:00Z")
    full.took.FromJsonString("-1.5s")
    full.free.update({"a": [None, 1.5]})
    full.day.year, full.day.month, full.day.day = 2024, 2, 29
    full.opens.hours = 24
    full.price.value, full.price.scale = (-12345).to_bytes(3, "big", signed=True), 2
    none = every(number=0, colour=7)
    columns = (Column("id", pa.int64(), "Id.", nullable=False), Column("price", pa.decimal128(9, 2), "Price."))
    decoder = ProtobufDecoder(
        replace(CARD_SCANS, columns=columns, key=(), partition=None), 10_000, Registry(registry.url)
    )
    path = header(schema_id, 3, 0, 0, 0)
    (decoded,) = decoder.decode(TOPIC, [Message(path + m.SerializeToString()) for m in (full, none)])
    assert decoded.rejected == ()
    one, two = decoded.batch.to_pylist()
    again = one.pop("again")
    assert '"id": 4' in again
    assert '"at": null' in again
    assert one == {
        "id": -(2**63),
        "price": Decimal("-123.45"),
        "most": Decimal(2**64 - 1),
        "least": 2**63 - 1,
        "unsigned": 2**32 - 1,
        "ratio": 0.1,
        "flag": True,
        "raw": b"\xff",
        "colour": "RED",
        "text": "ä",
        "maybe": None,
        "number": None,
        "word": "w",
        "many": "[1, -1]",
        "times": '["0001-01-01T00:00:00Z"]',
        "by_name": '{"k": "AA=="}',
        "by_flag": '{"true": {"name": "s", "town": null}}',
        "shop": '{"name": "n", "town": {"people": 18446744073709551615}}',
        "at": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=timezone.utc),
        "took": Decimal("-1.5"),
        "wrapped": 0,
        "unset": None,
        "free": '{"a": [null, 1.5]}',
        "day": date(2024, 2, 29),
        "opens": "24:00:00",
    }
    assert {name: value for name, value in two.items() if value is not None} == {
        "id": 0, "most": 0, "least": 0, "unsigned": 0, "ratio": 0.0, "flag": False, "raw": b"", "colour": "7",
        "text": "", "number": 0, "many": "[]", "times": "[]", "by_name": "{}", "by_flag": "{}",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "column", "problem"),
    [
        ("uint64", pa.int64(), None),
        ("uint64", pa.decimal128(20, 0), None),
        ("uint64", pa.decimal128(19, 0), "uint64"),
        ("int64", pa.int32(), "long"),
        ("bool", pa.int64(), "boolean"),
        ("google.protobuf.Timestamp", pa.timestamp("us", tz="UTC"), None),
        ("google.protobuf.Timestamp", pa.timestamp("us"), "timestamp-nanos"),
        ("google.protobuf.Duration", pa.float64(), None),
        ("google.protobuf.StringValue", pa.string(), None),
        ("repeated int32", pa.string(), None),
        ("repeated int32", pa.int64(), "array"),
    ],
)
def test_compatibility(kind: str, column: pa.DataType, problem: str | None) -> None:
    text = "\n".join(
        [
            'syntax = "proto3";',
            *(f'import "google/protobuf/{name}.proto";' for name in ("timestamp", "duration", "wrappers")),
            f"message M {{ {kind} x = 1; }}",
        ]
    )
    table = replace(CARD_SCANS, columns=(Column("x", column, "X."),), key=(), partition=None)
    decoder = ProtobufDecoder(table, 100, None, judged=False)  # type: ignore[arg-type]
    found = incompatibilities(table, decoder.compiled(Schema("PROTOBUF", text), (0,)).described)
    assert [p.detail for p in found] == ([f"{column} was agreed, the schema has {problem}"] if problem else [])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"took": {"seconds": 400_000_000_000}}, "holds a Duration out of its range"),
        ({"at": {"seconds": 2**62}}, "holds a Timestamp outside of the years 1 to 9999"),
        ({"day": {"year": 2024}}, "holds a google.type.Date that is no day"),
        ({"price": {"scale": 2**31 - 1}}, "holds a Decimal of too many digits"),
    ],
)
def test_values_that_mean_nothing(registry: RegistryServer, change: dict[str, Any], why: str) -> None:
    known = OneSchema(Schema("PROTOBUF", EVERYTHING, REFERENCES))
    every = message_type(EVERYTHING, "kinds.Outer.Inner.Every", REFERENCES)(**change)
    columns = (Column("id", pa.int64(), "Id."),)
    decoder = ProtobufDecoder(replace(CARD_SCANS, columns=columns, key=(), partition=None), 10_000, known)  # type: ignore[arg-type]
    value = header(0, 3, 0, 0, 0) + every.SerializeToString()
    (decoded,) = decoder.decode(TOPIC, [Message(value)])
    assert [rejected.reason for _, rejected in decoded.rejected] == [why]


def test_proto2(registry: RegistryServer) -> None:
    """A required field that is not there, a default, an extension, and text that is not UTF-8."""
    text = """
syntax = "proto2"; package old;
message M { required int64 id = 1; optional string name = 2 [default = "x"]; extensions 100 to 200; }
extend M { optional int32 more = 100; }
"""
    schema_id = registry.register("s", text, kind="PROTOBUF")
    columns = (Column("id", pa.int64(), "Id."),)
    decoder = ProtobufDecoder(replace(CARD_SCANS, columns=columns, key=(), partition=None), 99, Registry(registry.url))
    bodies = (b"\x08\x05\xa0\x06\x07", b"\x12\x01a", b"\x08\x05\x12\x01\xff")
    (decoded,) = decoder.decode(TOPIC, [Message(header(schema_id, 0) + body) for body in bodies])
    assert decoded.batch.to_pylist() == [{"id": 5, "name": None, "old.more": 7}]
    assert [(index, bad.reason) for index, bad in decoded.rejected] == [
        (1, "lacks a field that its schema requires"),
        (2, "holds text that is not UTF-8"),
    ]


@pytest.mark.parametrize(
    ("text", "references", "why"),
    [
        ('syntax = "proto3"; import "/etc/hosts";', (), "/etc/hosts"),
        ('syntax = "proto3"; import "../secret.proto";', (), "secret.proto"),
        ('syntax = "proto3"; import "other.proto";', (), "other.proto: File not found"),
        ('syntax = "proto3"; import "_schema.proto";', (), "recursively imports itself"),
        ('syntax = "proto3"; message M { M m = 0; }', (), "1:"),
        ('syntax = "proto3"; ' + "message M { " * 10_000, (), "recursion limit"),
        ("no schema", (), "protoc refuses it"),
        ('syntax = "proto3";', (("../up.proto", ""),), "by a name that no file has"),
        ('syntax = "proto3";', (("/etc/cron.d/x", ""),), "by a name that no file has"),
        ('syntax = "proto3";', (("a", "x"), ("a/b", "y")), "names that exclude each other"),
    ],
)
def test_source_text_from_outside(text: str, references: tuple[tuple[str, str], ...], why: str) -> None:
    """Nothing is imported but what the registry refers to, and no file is read or written elsewhere."""
    with pytest.raises(UnknownSchemaError, match=why):
        proto_source.compiled(Schema("PROTOBUF", text, references))


def test_nobody_replaces_what_protoc_brings() -> None:
    fake = 'syntax = "proto3"; package google.protobuf; message Timestamp { string evil = 1; }'
    text = 'syntax = "proto3"; import "google/protobuf/timestamp.proto"; message M { google.protobuf.Timestamp t = 1; }'
    file = proto_source.compiled(Schema("PROTOBUF", text, (("google/protobuf/timestamp.proto", fake),)))
    fields = file.message_types_by_name["M"].fields[0].message_type.fields_by_name
    assert list(fields) == ["seconds", "nanos"]


_FUZZED = ProtobufDecoder(CARD_SCANS, 50, OneSchema(Schema("PROTOBUF", scan())))  # type: ignore[arg-type]


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_nothing_that_arrives_stops_the_decoder(values: list[bytes]) -> None:
    decode_anything(_FUZZED, values, 6)


def test_the_page(registry: RegistryServer) -> None:
    """The schema of docs/engine/sources/message-formats.md lands as its table says."""
    page = ROOT.joinpath("docs/engine/sources/message-formats.md").read_text()
    schema = re.findall(r"```proto\n(.*?)```", page, re.DOTALL)[0]
    names, values = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in re.findall(r"^\| (?:id|r-1) .*$", page, re.MULTILINE)
    )
    made = message_type(schema, "Reading")(id="r-1", amount=2**64 - 1, meter={"serial": "m7"})
    made.at.FromJsonString("2024-02-29T22:00:00Z")
    schema_id = registry.register("page", schema, kind="PROTOBUF")
    table = replace(CARD_SCANS, columns=(Column("id", pa.string(), "Id."),), key=(), partition=None)
    value = header(schema_id, 0) + made.SerializeToString()
    (decoded,) = ProtobufDecoder(table, 1_000, Registry(registry.url)).decode(TOPIC, [Message(value)])
    (row,) = decoded.batch.to_pylist()
    assert list(row) == names
    assert ["" if one is None else str(one).replace("+00:00", "+00") for one in row.values()] == values


def test_a_schema_that_is_none_is_compiled_once(registry: RegistryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def compiled(schema: Schema) -> None:
        asked.append(schema)
        raise UnknownSchemaError("protoc refuses it")

    monkeypatch.setattr(proto_source, "compiled", compiled)
    schema_id = registry.register("s", "nonsense", kind="PROTOBUF")
    decoder = ProtobufDecoder(CARD_SCANS, 99, Registry(registry.url))
    for _ in range(3):
        (decoded,) = decoder.decode(TOPIC, [Message(header(schema_id, 0))])
        assert decoded.rejected[0][1].reason == "cannot be read: schema 1: protoc refuses it"
    assert len(asked) == 1
