"""Avro messages in Confluent's wire format.

Wire format: a zero byte, the id of the writer's schema in four bytes (big endian), then the record
(https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/#wire-format). Whether we
can read what was written with a schema, `compatibility` says.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from dataclasses import dataclass
from datetime import time
from io import BytesIO
from itertools import groupby
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pyarrow as pa

from granary.load.contract import ContractBrokenError
from granary.load.types import CAST_ERRORS, decimal
from granary.sources.units import Rejected
from granary.streams.compatibility import branches, contract_schema, incompatibilities, name_of
from granary.streams.decoding import UnfitError, checked, payload
from granary.streams.log import Decoded
from granary.streams.registry import UnknownSchemaError
from granary.warehouse.errors import GranaryError
from granary.warehouse.json_text import written as json_written
from granary.warehouse.records import Change

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.sources.spec import Table
    from granary.streams.log import Message
    from granary.streams.registry import Registry

MAGIC = 0
HEADER = struct.Struct(">bI")
NANOSECONDS = 1000
"""In a microsecond."""


@dataclass(frozen=True)
class _Written:
    """A schema that messages are written in: parsed, the types of its fields, and why it cannot be read."""

    schema: Any
    fields: Mapping[str, Any]
    problems: tuple[Change, ...]


class AvroDecoder:
    """Reads Confluent's wire format; each schema id is checked against the contract before its first message counts."""

    def __init__(self, table: Table, max_bytes: int, registry: Registry) -> None:
        """Decode for this contract with the schemas of this registry.

        Raises:
            GranaryError: fastavro is not installed.
        """
        try:
            import fastavro  # noqa: PLC0415 - only Avro needs it
        except ImportError:
            raise GranaryError("Avro needs the package fastavro", todo="install granary[streams]") from None
        self.table, self.max_bytes, self.registry = table, max_bytes, registry
        self._parse, self._read = fastavro.parse_schema, fastavro.schemaless_reader
        self._known: dict[int, _Written] = {}

    def check(self, topic: str) -> list[str]:
        """Compare the latest version of the topic's schema with the contract, and ask the registry for its own opinion.

        The subject is <topic>-value, as the registry's clients name it unless they are told otherwise.

        Raises:
            ContractBrokenError: the contract cannot read it, and wants to stop then.
            RegistryUnavailableError: the registry does not answer.
        """
        subject = f"{topic}-value"
        latest = self.registry.version(subject)
        if latest is None:
            return []
        where = f"{subject} version {latest.version}"
        problems = incompatibilities(self.table, latest.schema[-1])
        if problems and self._stops(problems):
            raise ContractBrokenError(problems[0].column, problems[0].change, problems[0].detail, where)
        found = [f"{where} cannot be read: column {p.column} is {p.change}: {p.detail}" for p in problems]
        agrees, words = self.registry.can_read(subject, contract_schema(self.table))
        if not agrees and not problems:
            found.append(f"{where}: the registry finds the contract incompatible: {'; '.join(words)[:300]}")
        if (level := self.registry.level(subject)) == "NONE":
            found.append(f"{subject}: its compatibility is {level}, so any version may be registered")
        return found

    def _stops(self, problems: Sequence[Change]) -> bool:
        return self.table.retyped == "refuse" or any(problem.change == "added" for problem in problems)

    def decode(self, topic: str, messages: Sequence[Message]) -> list[Decoded]:
        """Return the messages' rows, in runs of one schema; an unreadable message is rejected alone.

        Raises:
            ContractBrokenError: a schema cannot be read, and the contract wants to stop then.
            RegistryUnavailableError: a schema is not known yet and cannot be asked for now.
        """
        runs = groupby(messages, key=lambda message: _schema_id(message.value))
        return [self._run(topic, schema_id, list(run)) for schema_id, run in runs]

    def _run(self, topic: str, schema_id: int | None, messages: Sequence[Message]) -> Decoded:
        trouble, written = "is no Avro in the wire format of a schema registry", None
        if schema_id is not None:
            try:
                written = self._written(topic, schema_id)
                trouble = "; ".join(
                    f"is written with schema {schema_id}, whose {p.column} is {p.change}" for p in written.problems[:1]
                )
            except UnknownSchemaError as error:
                trouble = f"cannot be read: {error.what}"
        rows: list[dict[str, Any]] = []
        places: list[int] = []
        rejected: dict[int, Rejected] = {}
        for index, message in enumerate(messages):
            try:
                value = checked(message.value, self.max_bytes)
                if written is None or trouble:
                    raise UnfitError(trouble)
                rows.append(self._row(written.schema, value))
                places.append(index)
            except UnfitError as error:
                rejected[index] = Rejected("", str(error), payload(message.value), message.line)
        types = _types(self.table, written.fields) if written and not trouble else _types(self.table, {})
        batch, bad = _columns(types, rows)
        for place, (column, why) in bad.items():
            at = places[place]
            rejected[at] = Rejected(column, why, payload(messages[at].value), messages[at].line)
        return Decoded(batch, tuple(sorted(rejected.items())), written.problems if written else ())

    def _written(self, topic: str, schema_id: int) -> _Written:
        """Return a schema, checked against the contract when it is new."""
        if schema_id not in self._known:
            *others, schema = self.registry.schema(schema_id)
            problems = tuple(
                Change(change.column, change.change, f"schema {schema_id} of {topic}: {change.detail}")
                for change in incompatibilities(self.table, schema)
            )
            if problems and self._stops(problems):
                raise ContractBrokenError(problems[0].column, problems[0].change, problems[0].detail, topic)
            try:
                named: dict[str, Any] = {}
                for other in others:
                    self._parse(other, named_schemas=named)
                parsed = self._parse(schema, named_schemas=named)
            except Exception as error:
                raise UnknownSchemaError(f"schema {schema_id} is not an Avro schema: {type(error).__name__}") from None
            fields = {field["name"]: field["type"] for field in schema["fields"]} if not problems else {}
            self._known[schema_id] = _Written(parsed, fields, problems)
        return self._known[schema_id]

    def _row(self, schema: Any, value: bytes) -> dict[str, Any]:
        stream = BytesIO(value)
        stream.seek(HEADER.size)
        try:
            row = self._read(stream, schema, None)
        except Exception as error:
            raise UnfitError(f"is not a record of its schema: {type(error).__name__}") from None
        if stream.read(1):
            raise UnfitError("has bytes after its record")
        if not isinstance(row, dict):
            raise UnfitError("is not a record of its schema")
        return row


def _schema_id(value: bytes | None) -> int | None:
    """Return the id that a message names, or None if it is not in the wire format."""
    if value is None or len(value) < HEADER.size or value[0] != MAGIC:
        return None
    return int(HEADER.unpack_from(value)[1])


def _types(table: Table, fields: Mapping[str, Any]) -> dict[str, tuple[tuple[str, ...], pa.DataType]]:
    """Return the columns of a batch: name -> the fields that it is read from, and its type.

    Contract columns have the contract's type, whatever Avro promotes to it; others that of the schema, so that it does
    not depend on the values of a batch.
    """
    known = {name for column in table.columns for name in (column.name, *column.aliases)}
    columns = {column.name: ((column.name, *column.aliases), column.type) for column in table.columns}
    return columns | {name: ((name,), _arrow_type(kind)) for name, kind in fields.items() if name not in known}


def _arrow_type(kind: Any) -> pa.DataType:
    """Return the type of a field that no contract names; what is nested, or of several types, lands as JSON text."""
    kinds = branches(kind)
    if len(kinds) != 1:
        return pa.string()
    name = name_of(kinds[0])
    if name == "decimal":
        return decimal(kinds[0]["precision"], kinds[0].get("scale", 0))
    return {
        "int": pa.int64(),
        "long": pa.int64(),
        "float": pa.float64(),
        "double": pa.float64(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "bytes": pa.binary(),
        "timestamp-millis": pa.timestamp("us", tz="UTC"),
        "timestamp-micros": pa.timestamp("us", tz="UTC"),
        "timestamp-nanos": pa.timestamp("us", tz="UTC"),
        "local-timestamp-millis": pa.timestamp("us"),
        "local-timestamp-micros": pa.timestamp("us"),
        "local-timestamp-nanos": pa.timestamp("us"),
    }.get(name, pa.string())


def _columns(
    types: Mapping[str, tuple[tuple[str, ...], pa.DataType]], rows: Sequence[dict[str, Any]]
) -> tuple[pa.RecordBatch, dict[int, tuple[str, str]]]:
    """Return rows as Arrow without those that do not fit, and why these do not: index -> (column, reason)."""
    bad: dict[int, tuple[str, str]] = {}
    values = {
        name: [_value(next((row[n] for n in names if n in row), None), kind) for row in rows]
        for name, (names, kind) in types.items()
    }
    arrays = {}
    for name, (_, kind) in types.items():
        try:
            arrays[name] = pa.array(values[name], kind)
        except (*CAST_ERRORS, ValueError, TypeError):
            for index, value in enumerate(values[name]):
                try:
                    pa.array([value], kind)
                except (*CAST_ERRORS, ValueError, TypeError):
                    bad.setdefault(index, (name, f"is not a valid {kind}"))
    if bad:
        kept = [row for index, row in enumerate(rows) if index not in bad]
        return _columns(types, kept)[0], bad
    return pa.RecordBatch.from_pydict(
        arrays, schema=pa.schema([(name, kind) for name, (_, kind) in types.items()])
    ), bad


def _value(value: Any, kind: pa.DataType) -> Any:
    """Return a decoded value as a column of this type takes it."""
    if isinstance(value, int) and pa.types.is_timestamp(kind):
        return value // NANOSECONDS  # the one unit of times that fastavro leaves as it is; raw tables have microseconds
    if value is None or not pa.types.is_string(kind) or isinstance(value, str):
        return value.encode() if isinstance(value, str) and pa.types.is_binary(kind) else value
    if isinstance(value, bytes):
        return value.decode("utf-8") if _is_utf8(value) else b64encode(value).decode()
    if isinstance(value, (time, UUID)):
        return str(value) if isinstance(value, UUID) else value.isoformat()
    try:
        return json_written(value)
    except ValueError:
        return value  # which is not text: its row is refused


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
