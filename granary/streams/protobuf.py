"""Protobuf messages of a schema registry: behind the header the place of the message's type, then the message.

The place is a path of indexes, from the file's messages to those nested in them: their number and each of them as a
zigzag varint, or a single zero for the first message of the file
(https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/#wire-format).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from granary.streams import proto_source
from granary.streams.decoding import UnfitError
from granary.streams.registered import RegistryDecoder, Written
from granary.streams.registry import UnknownSchemaError

if TYPE_CHECKING:
    from granary.sources.spec import Table
    from granary.streams.registry import Registry, Schema

MOST_LEVELS = 64
VARINT_BYTES = 5


class ProtobufDecoder(RegistryDecoder):
    """Reads messages by the source text of the schema that they were written with."""

    kind = "PROTOBUF"

    def __init__(self, table: Table, max_bytes: int, registry: Registry, *, judged: bool = True) -> None:
        """Decode for this contract with the schemas of this registry.

        Raises:
            GranaryError: protoc is not installed.
        """
        proto_source.require()
        from google.protobuf.message import DecodeError  # noqa: PLC0415 - only Protobuf needs it

        super().__init__(table, max_bytes, registry, judged=judged)
        self._error = DecodeError
        self._files: dict[Schema, Any] = {}

    def first(self, schema: Schema) -> tuple[int, ...]:
        """Return the first message of the file."""
        del schema
        return (0,)

    def place(self, body: memoryview) -> tuple[tuple[int, ...], int]:
        """Return the path of indexes, and how many bytes it takes."""
        number, at = _varint(body, 0)
        if not 0 <= number <= MOST_LEVELS:
            raise UnfitError("names no type")
        path = []
        for _ in range(number):
            index, at = _varint(body, at)
            path.append(index)
        return tuple(path) or (0,), at

    def compiled(self, schema: Schema, place: tuple[int, ...]) -> Written:
        """Return how messages of a type are read."""
        from google.protobuf.message_factory import GetMessageClass  # noqa: PLC0415

        from granary.streams.proto_values import Records  # noqa: PLC0415

        if schema not in self._files:
            self._files[schema] = proto_source.compiled(schema)
        file = self._files[schema]
        kinds = list(file.message_types_by_name.values())
        found = None
        for index in place:
            if not 0 <= index < len(kinds):
                raise UnknownSchemaError(f"it has no message {list(place)}")
            found = kinds[index]
            kinds = found.nested_types
        make, records = GetMessageClass(found), Records()
        return Written(lambda body: self._read(make, records, body), records.described(found))

    def _read(self, make: Any, records: Any, body: memoryview) -> dict[str, Any]:
        message = make()
        try:
            message.ParseFromString(bytes(body))
            if not message.IsInitialized():
                raise UnfitError("lacks a field that its schema requires")
            found: dict[str, Any] = records.read(message)
        except (self._error, UnicodeDecodeError):
            raise UnfitError("is not a message of its schema") from None
        return found


def _varint(body: memoryview, at: int) -> tuple[int, int]:
    """Return a zigzag varint, and the place behind it."""
    value = 0
    for count in range(VARINT_BYTES):
        if at >= len(body):
            break
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:  # noqa: PLR2004 - the last byte of a varint
            return (value >> 1) ^ -(value & 1), at
    raise UnfitError("names no type")
