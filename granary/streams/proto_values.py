"""Protobuf messages as records: what each kind of field is as an Avro type, and how its values are read.

The JSON mapping of Protobuf is the model for what is nested (https://protobuf.dev/programming-guides/json/), but for
numbers of 64 bits, which stay numbers.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from operator import attrgetter
from typing import Any

from granary.streams.decoding import UnfitError

Read = Callable[[Any], Any]

NANOS = 1_000_000_000
FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799
"""Of the years 1 to 9999, in which a Timestamp lies."""
LONGEST_SECONDS = 315_576_000_000
MOST_SCALE = 1_000

WRAPPERS = {
    f"google.protobuf.{name}Value": kind
    for name, kind in {
        "Double": "double",
        "Float": "float",
        "Int64": "long",
        "UInt64": "uint64",
        "Int32": "int",
        "UInt32": "long",
        "Bool": "boolean",
        "String": "string",
        "Bytes": "bytes",
    }.items()
}


def timestamp(message: Any) -> int:
    """Return a google.protobuf.Timestamp in nanoseconds since 1970."""
    if not (FIRST_SECOND <= message.seconds <= LAST_SECOND and 0 <= message.nanos < NANOS):
        raise UnfitError("holds a Timestamp outside of the years 1 to 9999")
    return int(message.seconds) * NANOS + int(message.nanos)


def duration(message: Any) -> Decimal:
    """Return a google.protobuf.Duration in seconds."""
    if abs(message.seconds) > LONGEST_SECONDS or abs(message.nanos) >= NANOS or message.seconds * message.nanos < 0:
        raise UnfitError("holds a Duration out of its range")
    return Decimal(message.seconds * NANOS + message.nanos).scaleb(-9)


def day(message: Any) -> date:
    """Return a google.type.Date."""
    try:
        return date(message.year, message.month, message.day)
    except ValueError:
        raise UnfitError("holds a google.type.Date that is no day") from None


def time_of_day(message: Any) -> str:
    """Return a google.type.TimeOfDay as text; 24:00:00 is one."""
    fraction = f".{message.nanos:09}".rstrip("0") if message.nanos else ""
    return f"{message.hours:02}:{message.minutes:02}:{message.seconds:02}{fraction}"


def big_decimal(message: Any) -> Decimal:
    """Return a confluent.type.Decimal: an unscaled number, big endian in two's complement, and its scale."""
    if abs(message.scale) > MOST_SCALE or len(message.value) > MOST_SCALE:
        raise UnfitError("holds a Decimal of too many digits")
    return Decimal(int.from_bytes(message.value, "big", signed=True)).scaleb(-message.scale)


def value(message: Any) -> Any:
    """Return a google.protobuf.Value as what JSON has."""
    kind = message.WhichOneof("kind")
    if kind == "struct_value":
        return struct(message.struct_value)
    if kind == "list_value":
        return [value(one) for one in message.list_value.values]
    return None if kind in (None, "null_value") else getattr(message, kind)


def struct(message: Any) -> dict[str, Any]:
    """Return a google.protobuf.Struct."""
    return {name: value(one) for name, one in message.fields.items()}


WELL_KNOWN: dict[str, tuple[Any, Read]] = {
    "google.protobuf.Timestamp": ({"type": "long", "logicalType": "timestamp-nanos"}, timestamp),
    "google.protobuf.Duration": ("duration", duration),
    "google.protobuf.Struct": ({"type": "record"}, struct),
    "google.protobuf.Value": ({"type": "record"}, value),
    "google.protobuf.ListValue": ({"type": "array"}, lambda message: [value(one) for one in message.values]),
    "google.type.Date": ({"type": "int", "logicalType": "date"}, day),
    "google.type.TimeOfDay": ("string", time_of_day),
    "confluent.type.Decimal": ("unbounded decimal", big_decimal),
    **{name: (kind, lambda message: message.value) for name, kind in WRAPPERS.items()},
}
"""Full name of a message type -> its Avro type, and how a value is read."""


def nested(found: Any, is_instant: bool = False) -> Any:
    """Return a value as JSON has it within something else."""
    if is_instant:
        text = (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=found // NANOS)).strftime("T%H:%M:%S")
        at = date(1970, 1, 1) + timedelta(days=found // NANOS // 86_400)
        fraction = f".{found % NANOS:09}".rstrip("0") if found % NANOS else ""
        return f"{at.isoformat()}{text}{fraction}Z"
    if isinstance(found, bytes):
        return b64encode(found).decode()
    return f"{found:f}" if isinstance(found, Decimal) else found


class Records:
    """How the messages of a type become records: a reader for each field, made once for each type."""

    def __init__(self) -> None:
        """Load the runtime."""
        from google.protobuf import unknown_fields  # noqa: PLC0415 - only Protobuf needs it
        from google.protobuf.descriptor import FieldDescriptor  # noqa: PLC0415

        self._unknown, self._kinds = unknown_fields.UnknownFieldSet, FieldDescriptor
        self._types = {
            FieldDescriptor.CPPTYPE_INT32: "int",
            FieldDescriptor.CPPTYPE_UINT32: "long",
            FieldDescriptor.CPPTYPE_INT64: "long",
            FieldDescriptor.CPPTYPE_UINT64: "uint64",
            FieldDescriptor.CPPTYPE_FLOAT: "float",
            FieldDescriptor.CPPTYPE_DOUBLE: "double",
            FieldDescriptor.CPPTYPE_BOOL: "boolean",
            FieldDescriptor.CPPTYPE_ENUM: {"type": "enum"},
        }
        self._readers: dict[str, list[tuple[str, Read]]] = {}

    def described(self, descriptor: Any) -> dict[str, Any]:
        """Return the Avro record that says the same as a message type."""
        fields = [{"name": _name(field), "type": self._optional(field)} for field in _fields(descriptor)]
        return {"type": "record", "name": descriptor.full_name, "fields": fields}

    def read(self, message: Any) -> dict[str, Any]:
        """Return a message as a record.

        Raises:
            UnfitError: a value means nothing, or there are fields that the schema does not have.
        """
        return {name: read(message) for name, read in self._of(message, deep=False)}

    def _of(self, message: Any, *, deep: bool) -> list[tuple[str, Read]]:
        if len(unknown := self._unknown(message)):
            raise UnfitError(f"has the field number {unknown[0].field_number}, which its schema does not have")
        descriptor = message.DESCRIPTOR
        key = f"{deep} {descriptor.full_name}"
        if key not in self._readers:
            self._readers[key] = [(_name(field), self._field(field, deep=deep)) for field in _fields(descriptor)]
        return self._readers[key]

    def _optional(self, field: Any) -> Any:
        """Return a field as an Avro type; a union with null if it may be unset, and is null then."""
        kind = self._kind(field)
        return ["null", kind] if field.has_presence and not field.is_required else kind

    def _kind(self, field: Any) -> Any:
        """Return a field as an Avro type."""
        if _repeated(field):
            return {"type": "map" if _is_map(field) else "array"}
        if field.message_type is not None:
            known = WELL_KNOWN.get(field.message_type.full_name)
            return known[0] if known else {"type": "record"}
        if field.type == self._kinds.TYPE_BYTES:
            return "bytes"
        return self._types.get(field.cpp_type, "string")

    def _field(self, field: Any, *, deep: bool) -> Read:
        """Return how a field of a message is read; `deep`, if it lies within something else."""
        name = field.name
        get: Read = (lambda message: message.Extensions[field]) if field.is_extension else attrgetter(name)
        if _is_map(field):
            of = self._one(field.message_type.fields_by_name["value"], deep=True)
            return lambda message: {_key(key): of(get(message)[key]) for key in get(message)}
        if _repeated(field):
            one = self._one(field, deep=True)
            return lambda message: [one(part) for part in get(message)]
        single = self._one(field, deep=deep)
        if field.is_extension:
            return lambda message: single(get(message)) if message.HasExtension(field) else None
        if field.has_presence:
            return lambda message: single(get(message)) if message.HasField(name) else None
        return lambda message: single(get(message))

    def _one(self, field: Any, *, deep: bool) -> Read:  # noqa: PLR0911 - one kind, one line
        """Return how a single value is read."""
        if field.message_type is not None:
            full_name = field.message_type.full_name
            known = WELL_KNOWN.get(full_name)
            if known is None:
                return lambda message: {name: read(message) for name, read in self._of(message, deep=True)}
            plain, instant = known[1], full_name == "google.protobuf.Timestamp"
            if not deep:
                return plain
            if full_name == "google.type.Date":
                return lambda message: plain(message).isoformat()
            return lambda message: nested(plain(message), instant)
        if field.enum_type is not None:
            names = field.enum_type.values_by_number
            return lambda number: str(names[number].name if number in names else number)
        if field.cpp_type == self._kinds.CPPTYPE_STRING and field.type != self._kinds.TYPE_BYTES:
            return _text
        return nested if deep else _same


def _same(found: Any) -> Any:
    return found


def _text(found: Any) -> str:
    """Return text; that of proto2 comes as bytes where it is none."""
    if not isinstance(found, str):
        raise UnfitError("holds text that is not UTF-8")
    return found


def _fields(descriptor: Any) -> list[Any]:
    """Return the fields of a message type, and those that its file adds to it."""
    return [*descriptor.fields, *descriptor.file.pool.FindAllExtensions(descriptor)]


def _name(field: Any) -> str:
    return str(field.full_name if field.is_extension else field.name)


def _repeated(field: Any) -> bool:
    return bool(field.is_repeated)


def _is_map(field: Any) -> bool:
    return field.message_type is not None and _repeated(field) and field.message_type.GetOptions().map_entry


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)
