"""Messages as producers write them with a schema of a registry."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import fastavro
from google.protobuf.message_factory import GetMessageClass

from granary.streams import proto_source
from granary.streams.log import Message
from granary.streams.registry import Schema, UnknownSchemaError
from tests.python.support.stream_servers import TOPIC

if TYPE_CHECKING:
    from collections.abc import Iterable

    from granary.streams.log import Decoder

AT = datetime(2017, 3, 12, 5, tzinfo=timezone.utc)
ROW: dict[str, Any] = {
    "event_id": "a",
    "type": "card_scanned",
    "occurred_at": AT,
    "member_id": 7,
    "card_id": 10,
    "door_id": 1,
}
"""A scan as Avro has it."""


def header(schema_id: int, *indexes: int) -> bytes:
    """Return the head of a message: the id of its schema, and for Protobuf the path to its type."""
    return struct.pack(">bI", 0, schema_id) + b"".join(varint(number) for number in indexes)


def varint(number: int) -> bytes:
    """Return a number as a zigzag varint."""
    rest = number << 1 if number >= 0 else (-number << 1) - 1
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])


def message_type(text: str, name: str, references: tuple[tuple[str, str], ...] = ()) -> Any:
    """Return the class of a message by its full name."""
    file = proto_source.compiled(Schema("PROTOBUF", text, references))
    return GetMessageClass(file.pool.FindMessageTypeByName(name))


def record(**types: Any) -> dict[str, Any]:
    """Return version 1 of the scans' schema in Avro, with fields changed, added, or left out (None)."""
    fields = {
        "event_id": "string",
        "type": {"type": "enum", "name": "kind", "symbols": ["card_scanned"]},
        "occurred_at": {"type": "long", "logicalType": "timestamp-millis"},
        "member_id": "int",
        "card_id": "long",
        "door_id": ["null", "int"],
    } | types
    return {
        "type": "record",
        "name": "Scan",
        "namespace": "com.example",
        "fields": [{"name": name, "type": kind} for name, kind in fields.items() if kind is not None],
    }


def wire(schema_id: int, schema: Any, row: dict[str, Any]) -> bytes:
    """Return a row in Avro, with its head."""
    out = io.BytesIO()
    out.write(header(schema_id))
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), row)
    return out.getvalue()


@dataclass(frozen=True)
class OneSchema:
    """A registry that knows the schema 0 and no other."""

    known: Schema

    def schema(self, schema_id: int) -> Schema:
        """Return a schema by its id.

        Raises:
            UnknownSchemaError: it is another one.
        """
        if schema_id:
            raise UnknownSchemaError(f"the registry knows no schema {schema_id}")
        return self.known


def decode_anything(decoder: Decoder, values: Iterable[bytes], head: int) -> None:
    """Have values decoded as they are and behind so many bytes of a head: each is a row, or rejected."""
    bodies = list(values)
    messages = [Message(bytes(head) + value) for value in bodies] + [Message(value) for value in bodies]
    decoded = decoder.decode(TOPIC, messages)
    assert sum(one.batch.num_rows + len(one.rejected) for one in decoded) == len(messages)
