"""Decoded records as Arrow columns, by a schema that is told as the Avro record that says the same."""

from __future__ import annotations

from base64 import b64encode
from datetime import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pyarrow as pa

from granary.load.types import CAST_ERRORS, decimal
from granary.streams.compatibility import branches, name_of
from granary.warehouse.json_text import written as json_written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.sources.spec import Table

NANOSECONDS = 1000
"""In a microsecond."""


def types_of(table: Table, fields: Mapping[str, Any]) -> dict[str, tuple[tuple[str, ...], pa.DataType]]:
    """Return the columns of a batch: name -> the fields that it is read from, and its type.

    Contract columns have the contract's type, whatever Avro promotes to it; others that of the schema, so that it does
    not depend on the values of a batch.
    """
    known = {name for column in table.columns for name in (column.name, *column.aliases)}
    columns = {column.name: ((column.name, *column.aliases), column.type) for column in table.columns}
    return columns | {name: ((name,), arrow_type(kind)) for name, kind in fields.items() if name not in known}


def arrow_type(kind: Any) -> pa.DataType:
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
        "uint64": pa.decimal128(20, 0),
        "duration": pa.decimal128(21, 9),
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


def columns(
    types: Mapping[str, tuple[tuple[str, ...], pa.DataType]], rows: Sequence[dict[str, Any]]
) -> tuple[pa.RecordBatch, dict[int, tuple[str, str]]]:
    """Return rows as Arrow without those that do not fit, and why these do not: index -> (column, reason)."""
    bad: dict[int, tuple[str, str]] = {}
    values = {
        name: [value_of(next((row[n] for n in names if n in row), None), kind) for row in rows]
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
        return columns(types, kept)[0], bad
    return pa.RecordBatch.from_pydict(
        arrays, schema=pa.schema([(name, kind) for name, (_, kind) in types.items()])
    ), bad


def value_of(value: Any, kind: pa.DataType) -> Any:  # noqa: PLR0911 - one rule, one line
    """Return a decoded value as a column of this type takes it."""
    if isinstance(value, int) and pa.types.is_timestamp(kind):
        return value // NANOSECONDS  # the one unit of times that fastavro leaves as it is; raw tables have microseconds
    if isinstance(value, Decimal) and not pa.types.is_decimal(kind):
        return float(value) if pa.types.is_floating(kind) else f"{value:f}"
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
