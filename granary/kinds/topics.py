"""`granary add-source NAME kafka://…`: tables of a log, by what a schema registry says of their topics.

What a schema says is what the topic's owner has agreed to: types, which values may be missing, descriptions. What it
leaves open is told as a guess. No message is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.profiling.names import snake
from granary.scaffold.agreed import Agreed, AgreedTable
from granary.scaffold.names import table_names
from granary.scaffold.plan import Found, Opening, PlannedSource, plan
from granary.scaffold.python_text import Group
from granary.sources.spec import Column, Table
from granary.streams.address import FORMATS, parse
from granary.streams.compatibility import branches, incompatibilities, name_of
from granary.streams.kinds import KINDS
from granary.streams.opening import registered
from granary.streams.record_columns import arrow_type
from granary.warehouse.errors import GranaryError, UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FRESHNESS = timedelta(hours=1)
VALUE = "-value"
MOST_SCALE, DIGITS = 18, 18
INSIDE = {"date-time": pa.timestamp("us", tz="UTC"), "date": pa.date32()}
"""What JSON Schema's formats of text are read as."""
DESCRIBED = Table(
    name="described",
    description="A topic that nobody has described yet.",
    location="described",
    columns=(Column("unknown", pa.string(), "Not yet.", missing="null"),),
    disposition="append",
    freshness=FRESHNESS,
)


@dataclass(frozen=True)
class _Field:
    """A field of a schema as a column: None for the type where no contract can read it."""

    name: str
    type: pa.DataType | None
    is_required: bool
    description: str
    mixed: bool = False
    note: str = ""


def is_log(where: str) -> bool:
    """Return whether an address is one of a log or a queue."""
    return where.partition("://")[0] in KINDS and "://" in where


def inspect(
    name: str, where: str, *, only: Sequence[str] = (), keys: Mapping[str, tuple[str, ...]] | None = None
) -> PlannedSource:
    """Ask the registry of an address for the schemas of topics, and decide on everything that is to be written.

    Args:
        name: the new source.
        where: the log's address, with `format` and `registry`.
        only: the topics; none of them means all that have a schema.
        keys: keys that a person gave, by table ("" for any).

    Raises:
        GranaryError: the address names no registry, the registry does not answer, or has no schema of a topic.
    """
    setting = f"GRANARY_{name.upper()}_STREAM"
    address = parse(where, setting)
    if address.format == "json" or not address.registry:
        raise UsageError(
            "messages without a schema do not say what their columns are",
            setting,
            f"name a registry: …?format={'|'.join(FORMATS[1:])}&registry=https://host:port; or write the contract by"
            " hand: `granary guide sources/streams`",
        )
    decoder = registered(DESCRIBED, address, judged=False)
    there = [one.removesuffix(VALUE) for one in decoder.registry.subjects() if one.endswith(VALUE)]
    for topic in only:
        if topic not in there:
            raise unknown("topic with a schema", topic, there, decoder.registry.url)
    topics = list(only or there)
    if not topics:
        raise GranaryError(
            "the registry has no schema of a topic", decoder.registry.url, f"they are called TOPIC{VALUE}"
        )
    names = dict(zip(topics, table_names(name, topics), strict=True))
    found, agreed, skipped = [], {}, []
    for topic, table in names.items():
        try:
            record = decoder.described(topic)
        except GranaryError as error:
            if only:
                raise
            skipped.append(f"{topic}: {error.what}")
            continue
        fields = [_field(one, topic) for one in record["fields"]]
        columns = {one.name: one for one in fields if one.type is not None}
        found.append(_found(topic, fields, record))
        agreed[table] = AgreedTable(
            table, _line(record.get("doc")), {key: _agreed(one) for key, one in columns.items()}, (), FRESHNESS, ()
        )
    opening = Opening(
        imports=("from granary.sources.capture import CapturedReader",),
        expression=Group("CapturedReader", ()),
        settings={setting: where},
        topics={names[one.location]: one.location for one in found},
    )
    planned = plan(name, address.format, opening, found, keys, skipped=skipped, agreed=agreed)
    tables = tuple(replace(table, disposition="append") for table in planned.tables)
    return replace(planned, tables=tables)


def _found(topic: str, fields: Sequence[_Field], record: Mapping[str, Any]) -> Found:
    columns = [one for one in fields if one.type is not None]
    if not columns:
        raise GranaryError("its schema has no field that a contract can read", topic, "write the contract by hand")
    schema = pa.schema([(one.name, one.type) for one in columns])
    return Found(
        name=snake(topic),
        location=topic,
        sample=schema.empty_table(),
        freshness=FRESHNESS,
        snapshot=True,
        optional=frozenset(one.name for one in columns if not one.is_required),
        notes=tuple(f"{one.name}: {one.note}" for one in fields if one.note),
        mixed=frozenset(one.name for one in columns if one.mixed),
    )


def _agreed(one: _Field) -> Agreed:
    assert one.type is not None
    return Agreed(one.name, one.type, one.description, one.is_required, None, (), None, None)


def _line(text: object) -> str:
    return " ".join(str(text or "").split())


def _field(field: Mapping[str, Any], topic: str) -> _Field:
    """Return a field of a record, as Avro has it, as a column."""
    name, kinds = str(field["name"]), branches(field["type"])
    given = field["type"] if isinstance(field["type"], list) else [field["type"]]
    is_required = "null" not in given and "default" not in field
    what = ", ".join(dict.fromkeys(map(name_of, kinds))) or "null"
    description = _line(field.get("doc")) or f"{name}, as its schema has it: {what}."
    kind, mixed, note = _type(kinds)
    if not snake(name):
        return _Field(name, None, is_required, description, note="no column can have its name: left out")
    column = Column("column", kind, "One.", aliases=(name,) if name != "column" else (), mixed=mixed, missing="null")
    record = {"type": "record", "fields": [dict(field)]}
    if incompatibilities(replace(DESCRIBED, columns=(column,)), record):
        note = f"{what} fits no type that a contract can say: left out of it, and lands as a new column"
        return _Field(name, None, is_required, description, note=note)
    return _Field(name, kind, is_required, description, mixed, note)


def _type(kinds: Sequence[Any]) -> tuple[pa.DataType, bool, str]:
    """Return the type of a column for a field that may be of these kinds, whether it is mixed, and what was guessed."""
    if not kinds:
        return pa.string(), False, "its schema allows nothing but null: text is a guess"
    if not (isinstance(kinds[0], dict) and kinds[0].get("json")):
        if kinds[0] == "any":
            return pa.string(), True, "its schema does not say what it is: text is a guess"
        note = (
            "its schema does not say how many digits it has: text is a guess" if kinds[0] == "unbounded decimal" else ""
        )
        return arrow_type(list(kinds)), False, note
    return _json_type(kinds)


def _json_type(kinds: Sequence[Any]) -> tuple[pa.DataType, bool, str]:
    names = list(dict.fromkeys(one if isinstance(one, str) else str(one["type"]) for one in kinds))
    if len(names) > 1:
        if set(names) == {"integer", "number"}:
            return pa.float64(), False, "a number without a step (multipleOf): floating point is a guess"
        return pa.string(), True, f"its schema allows {', '.join(names)}: text is a guess"
    kind = kinds[0]
    if names[0] == "string":
        formats = {one.get("format") for one in kinds}
        return (INSIDE.get(formats.pop(), pa.string()) if len(formats) == 1 else pa.string()), False, ""
    if names[0] == "number":
        if (scale := _scale(kind.get("multipleOf"))) is not None:
            digits = DIGITS + max(0, scale - 2)
            return (
                pa.decimal128(digits, scale),
                False,
                f"a multiple of {kind['multipleOf']}: {digits} digits are a guess",
            )
        return pa.float64(), False, "a number without a step (multipleOf): floating point is a guess"
    return {"integer": pa.int64(), "boolean": pa.bool_()}.get(names[0], pa.string()), False, ""


def _scale(step: object) -> int | None:
    """Return the digits behind the point that a step such as 0.01 leaves; None if it says nothing."""
    if (
        isinstance(step, bool)
        or not isinstance(step, (int, float, Decimal))
        or not re.fullmatch(r"[\d.e+-]+", str(step))
    ):
        return None
    exponent = Decimal(str(step)).as_tuple().exponent
    return -exponent if isinstance(exponent, int) and 0 < -exponent <= MOST_SCALE else None
