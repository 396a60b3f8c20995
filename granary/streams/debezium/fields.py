"""The types of columns as Debezium tells them, whichever converter wrote the message.

Types are those of Kafka Connect, with a name for what they mean (https://debezium.io/documentation/reference/stable/
connectors/postgresql.html#postgresql-data-types). The JSON converter writes them into each message, those of a registry
into the schema: as `connect.name` in Avro, as `title` in JSON Schema.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.cdc.rows import BYTES
from granary.streams.compatibility import branches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WIDEST = 38
"""Digits of the widest decimal that a raw table gets."""
CONNECT = "org.apache.kafka.connect.data."
TIME = "io.debezium.time."
OF_AVRO = {"int": "int32", "long": "int64", "float": "float32", "double": "float64", "record": "struct"}
OF_JSON = {"integer": "int64", "number": "float64", "object": "struct"}
LOGICAL = {"decimal": "Decimal", "date": "Date", "time-millis": "Time", "timestamp-millis": "Timestamp"}
"""Avro's logical types that Connect's own are written as, and that come decoded."""


@dataclass(frozen=True)
class Field:
    """The type of a column: Connect's, what it means (or ''), and what more is said of it, such as a scale."""

    type: str
    name: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> pa.DataType | None:
        """Return the type that a column gets where no contract names it; None is text."""
        if self.name in (f"{CONNECT}Date", f"{TIME}Date"):
            return pa.date32()
        if self.name in INSTANTS:
            return pa.timestamp("us")
        if self.name == f"{TIME}ZonedTimestamp":
            return pa.timestamp("us", tz="UTC")
        if self.name == f"{CONNECT}Decimal":
            digits, scale = self.parameters.get("connect.decimal.precision"), self.parameters.get("scale", 0)
            return pa.decimal128(int(digits), int(scale)) if digits and int(digits) <= WIDEST else None
        if self.name in TIMES or self.name == f"{CONNECT}Time":
            return None
        return PLAIN.get(self.type)


INSTANTS = {
    f"{CONNECT}Timestamp": 1_000,
    f"{TIME}Timestamp": 1_000,
    f"{TIME}MicroTimestamp": 1_000_000,
    f"{TIME}NanoTimestamp": 1_000_000_000,
}
"""Dates with times in no zone: how many units of theirs a second has."""
TIMES = {
    f"{CONNECT}Time": 1_000,
    f"{TIME}Time": 1_000,
    f"{TIME}MicroTime": 1_000_000,
    f"{TIME}NanoTime": 1_000_000_000,
}
PLAIN = {
    **dict.fromkeys(("int8", "int16", "int32", "int64"), pa.int64()),
    **dict.fromkeys(("float32", "float64"), pa.float64()),
    "boolean": pa.bool_(),
    "bytes": BYTES,
}


def of_connect(schema: Any) -> dict[str, Field]:
    """Return the columns of the row that an envelope's schema tells of, as the JSON converter writes it."""
    for part in _dicts(schema.get("fields") if isinstance(schema, dict) else None):
        if part.get("field") in ("before", "after"):
            return {
                str(one.get("field")): Field(
                    str(one.get("type")), str(one.get("name") or ""), one.get("parameters") or {}
                )
                for one in _dicts(part.get("fields"))
            }
    return {}


def of_avro(record: Mapping[str, Any]) -> dict[str, Field]:
    """Return the columns of the row that an envelope's schema tells of, given as an Avro record."""
    for part in record.get("fields", ()):
        if part["name"] in ("before", "after"):  # the first of the two has the type, the other its name
            row = next((one for one in branches(part["type"]) if isinstance(one, dict)), None)
            if row is not None and row.get("fields"):
                return {str(one["name"]): _of_avro(one["type"]) for one in row["fields"]}
    return {}


def _of_avro(kind: Any) -> Field:
    found = next(iter(branches(kind)), "string")
    if not isinstance(found, dict):
        return Field(OF_AVRO.get(str(found), str(found)))
    base, logical = str(found.get("type")), str(found.get("logicalType"))
    name, parameters = found.get("connect.name"), dict(found.get("connect.parameters") or {})
    if base == "record" and not name:  # a named record, such as io.debezium.data.VariableScaleDecimal
        name = ".".join(filter(None, (found.get("namespace"), found.get("name"))))
    if logical == "decimal":
        parameters |= {"scale": found.get("scale", 0), "connect.decimal.precision": found.get("precision")}
    if not name and logical in LOGICAL:
        name = CONNECT + LOGICAL[logical]
    kind = str(found.get("connect.type") or (OF_AVRO | OF_JSON).get(base, base))
    return Field(kind, str(name or ""), parameters)


def _dicts(values: Any) -> Iterator[dict[str, Any]]:
    return (one for one in (values if isinstance(values, list) else ()) if isinstance(one, dict))
