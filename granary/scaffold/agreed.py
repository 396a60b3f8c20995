"""What the owner of a source has promised of its tables, read from a data contract of the standard ODCS 3.

What is agreed goes before what a sample shows: types, descriptions, keys, which values may be missing or occur, how old
the data may be. What no contract of ours can hold is said, not dropped in silence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, get_args

import pyarrow as pa
import yaml

from granary.sources.spec import Personal
from granary.warehouse.errors import GranaryError
from granary.warehouse.records import sql_type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from granary.sources.spec import Column, Source, Table

LARGEST_FILE = 5_000_000
TIERS: tuple[str, ...] = get_args(Personal)
PHYSICAL = {
    "smallint": pa.int16(), "int2": pa.int16(), "integer": pa.int32(), "int": pa.int32(), "int4": pa.int32(),
    "bigint": pa.int64(), "int8": pa.int64(), "long": pa.int64(), "real": pa.float32(), "float4": pa.float32(),
    "float": pa.float64(), "double": pa.float64(), "double precision": pa.float64(), "float8": pa.float64(),
    "boolean": pa.bool_(), "bool": pa.bool_(), "date": pa.date32(), "bytea": pa.binary(), "binary": pa.binary(),
    "timestamptz": pa.timestamp("us", tz="UTC"), "timestamp with time zone": pa.timestamp("us", tz="UTC"),
    "timestamp without time zone": pa.timestamp("us"), "timestamp_ntz": pa.timestamp("us"),
    "timestamp_tz": pa.timestamp("us", tz="UTC"),
}  # fmt: skip
"""Types as databases write them. `timestamp` alone says nothing of a zone: the logical type's option does."""
LOGICAL = {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_(), "date": pa.date32()}
UNITS = {"m": "minutes", "minute": "minutes", "h": "hours", "hour": "hours", "d": "days", "day": "days", "w": "weeks"}
AGES = ("latency", "frequency", "freshness")
"""Properties of the service level that say how long nothing new may come, the first one that is there."""
MOST_DIGITS = 76


@dataclass(frozen=True)
class Agreed:
    """What is agreed of a column; None and empty for what is not said."""

    name: str
    type: pa.DataType
    description: str
    required: bool
    personal: Personal | None
    allowed: tuple[str, ...]
    minimum: int | float | None
    maximum: int | float | None


@dataclass(frozen=True)
class AgreedTable:
    """What is agreed of a table."""

    name: str
    description: str
    columns: Mapping[str, Agreed]
    key: tuple[str, ...]
    freshness: timedelta | None
    notes: tuple[str, ...]
    """What is agreed and no contract in ingestion/ can say."""


def read(path: Path) -> dict[str, AgreedTable]:
    """Return the tables of a contract by name.

    Raises:
        GranaryError: the file cannot be read, or is no contract of version 3 of the standard.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise GranaryError("a contract is not as large as this", str(path), "name a contract's YAML file")
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GranaryError(f"the contract cannot be read: {error.strerror}", str(path)) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        words = str(error).splitlines()[0]
        raise GranaryError(f"the contract is no YAML: {words}", str(path), "ask its owner for another") from None
    try:
        if found["kind"] != "DataContract" or not str(found["apiVersion"]).startswith("v3."):
            raise ValueError("it is no DataContract of version 3")
        age = _age(found.get("slaProperties") or ())
        tables = [_table(part, age) for part in found["schema"]]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        words = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        todo = "write it as the Open Data Contract Standard 3 says"
        raise GranaryError(f"this is no data contract: {words}", str(path), todo) from None
    return {table.name: table for table in tables}


def _table(part: Mapping[str, Any], age: timedelta | None) -> AgreedTable:
    name = str(part.get("physicalName") or part["name"]).rpartition(".")[2]
    notes: list[str] = []
    columns = {one.name: one for one in (_column(column, notes) for column in part["properties"])}
    keyed = [one for one in part["properties"] if one.get("primaryKey")]
    keyed.sort(key=lambda one: int(one.get("primaryKeyPosition", 1)))
    for rule in part.get("quality") or ():
        notes.append(f"rule {rule.get('name') or rule.get('metric') or 'without a name'} is left to a test of dbt's")
    key = tuple(_name(one) for one in keyed)
    return AgreedTable(name, _line(part.get("description")), columns, key, age, tuple(notes))


def _line(text: object) -> str:
    return " ".join(str(text or "").split())


def _name(part: Mapping[str, Any]) -> str:
    return str(part.get("physicalName") or part["name"])


def _column(part: Mapping[str, Any], notes: list[str]) -> Agreed:
    name, options = _name(part), part.get("logicalTypeOptions") or {}
    kind = _type(part, options)
    text = kind == pa.string()
    allowed = [one["value"] for one in part.get("enum") or ()]
    for rule in part.get("quality") or ():
        values = (rule.get("arguments") or {}).get("validValues")
        if values and not rule.get("mustBe"):
            allowed = allowed or list(values)
        elif rule.get("metric") not in ("nullValues", "missingValues"):
            notes.append(f"{name}: rule {rule.get('name') or rule.get('metric')} is left to a test of dbt's")
    if allowed and not text:
        notes.append(f"{name}: only text can have a list of values, and this is {sql_type(kind)}")
    said = part.get("classification")
    if said and said not in TIERS:
        notes.append(
            f"{name} is classified as {_line(said)[:40]}: if it is personal, give it one of {', '.join(TIERS)}"
        )
    bounds = [options.get("minLength" if text else "minimum"), options.get("maxLength" if text else "maximum")]
    fits = not (pa.types.is_boolean(kind) or pa.types.is_temporal(kind))
    low, high = ((bound if fits and isinstance(bound, (int, float)) else None) for bound in bounds)
    return Agreed(
        name,
        kind,
        _line(part.get("description")),
        bool(part.get("required") or part.get("primaryKey")),
        said if said in TIERS else None,
        tuple(str(value) for value in allowed) if text else (),
        low,
        high,
    )


def _type(part: Mapping[str, Any], options: Mapping[str, Any]) -> pa.DataType:
    """Return the Arrow type of a column: of its physical type if that is known, else of the logical one."""
    physical, logical = _line(part.get("physicalType")).lower(), part.get("logicalType")
    if digits := re.fullmatch(r"(?:numeric|decimal|number)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)", physical):
        whole, after = int(digits[1]), int(digits[2] or 0)
        if not 0 <= after <= whole <= MOST_DIGITS:
            raise ValueError(f"no column can be {physical}")
        return pa.decimal128(whole, after) if whole <= 38 else pa.decimal256(whole, after)  # noqa: PLR2004
    if physical in PHYSICAL:
        return PHYSICAL[physical]
    if logical == "timestamp":
        return pa.timestamp("us", tz="UTC" if options.get("timezone") else None)
    return LOGICAL.get(str(logical), pa.string())


def _age(terms: Any) -> timedelta | None:
    said = {str(one["property"]).lower(): one for one in terms}
    for name in AGES:
        unit = UNITS.get(str(said.get(name, {}).get("unit", "")).lower().removesuffix("s") or "none")
        if name in said and unit:
            return timedelta(**{unit: float(said[name]["value"])})
    return None


def differences(source: Source, agreed: Mapping[str, AgreedTable]) -> list[str]:
    """Return where a source's contracts in ingestion/ say otherwise than what is agreed, a line each."""
    mine = {table.name: table for table in source.tables}
    found = [f"{source.name}.{name}: agreed, and not loaded" for name in agreed if name not in mine]
    return found + [
        f"{source.name}.{name}{line}"
        for name, table in agreed.items()
        if name in mine
        for line in _of(mine[name], table)
    ]


def _of(table: Table, agreed: AgreedTable) -> Iterator[str]:
    columns = {name: column for column in table.columns for name in (column.name, *column.aliases)}
    if table.key and agreed.key and set(table.key) != {columns[k].name if k in columns else k for k in agreed.key}:
        yield f": the key is {', '.join(table.key)}, and {', '.join(agreed.key)} is agreed"
    if agreed.freshness and table.freshness != agreed.freshness:
        yield f": freshness is {table.freshness}, and {agreed.freshness} is agreed"
    for name, wanted in agreed.columns.items():
        if name not in columns:
            yield f".{name}: agreed, and not in the contract"
        else:
            yield from _of_column(columns[name], wanted)
    for column in table.columns:
        if not {column.name, *column.aliases} & agreed.columns.keys():
            yield f".{column.name}: in the contract, and not agreed"


def _of_column(column: Column, wanted: Agreed) -> Iterator[str]:
    said: list[tuple[str, object, object]] = [
        ("type", sql_type(column.type), sql_type(wanted.type)),
        ("may be null", column.nullable, not wanted.required),
        ("allowed", sorted(column.allowed), sorted(wanted.allowed)),
        ("minimum", column.minimum, wanted.minimum),
        ("maximum", column.maximum, wanted.maximum),
        ("personal", column.personal, wanted.personal),
    ]
    for what, ours, theirs in said:
        agrees = ours == theirs or (theirs in (None, []) and what not in ("type", "may be null"))
        if not agrees:
            yield f".{column.name}: {what} is {_shown(ours)}, and {_shown(theirs)} is agreed"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "anything"
    return "nothing" if value is None else str(value)
