"""Messages as producers write them with a schema of a registry."""

from __future__ import annotations

import struct
from typing import Any

from google.protobuf.message_factory import GetMessageClass

from granary.streams import proto_source
from granary.streams.registry import Schema


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
