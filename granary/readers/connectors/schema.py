"""JSON Schema, as SCHEMA messages have it, beside a contract: which columns are there, and whether their types fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.load.contract import ContractBrokenError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from granary.sources.spec import Column, Table


def properties(schema: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the properties of a schema; none where it leaves them open."""
    found = schema.get("properties")
    return {str(name): one if isinstance(one, dict) else {} for name, one in found.items()} if found else {}


def kinds(schema: Mapping[str, Any]) -> frozenset[str]:
    """Return the types that values may have, without null; none where it leaves them open."""
    said = schema.get("type")
    found = {said} if isinstance(said, str) else {str(one) for one in said or ()}
    for part in ("anyOf", "oneOf", "allOf"):
        for inner in schema.get(part) or ():
            if isinstance(inner, dict):
                found |= kinds(inner)
    return frozenset(found - {"null"})


def form(schema: Mapping[str, Any]) -> str:
    """Return the format of a text, such as date-time; '' if it has none."""
    if isinstance(said := schema.get("format"), str):
        return said
    inner = [one for part in ("anyOf", "oneOf", "allOf") for one in schema.get(part) or () if isinstance(one, dict)]
    return next((found for one in inner if (found := form(one))), "")


def arrow(schema: Mapping[str, Any]) -> pa.DataType:
    """Return the type of a contract's column for a property; what is mixed or nested is text."""
    found = kinds(schema)
    if found == {"integer"}:
        return pa.int64()
    if found and found <= {"integer", "number"}:
        return pa.float64()
    if found == {"boolean"}:
        return pa.bool_()
    if found == {"string"} and form(schema) == "date-time":
        return pa.timestamp("us", tz="UTC")
    if found == {"string"} and form(schema) == "date":
        return pa.date32()
    return pa.string()


def check(table: Table, schema: Mapping[str, Any], where: str) -> list[str]:
    """Return the contract's columns that a schema has not.

    Raises:
        ContractBrokenError: a column has types that none of the contract's can hold.
    """
    there = properties(schema)
    if not there:
        return []
    missing = []
    for column in table.columns:
        name = next((name for name in (column.name, *column.aliases) if name in there), None)
        if name is None:
            missing.append(column.name)
        elif (found := kinds(there[name])) and not any(_holds(column, kind) for kind in found):
            agreed, came = column.type, " or ".join(sorted(found))
            raise ContractBrokenError(column.name, "retyped", f"{agreed} was agreed, {came} is announced", where)
    return missing


def _holds(column: Column, kind: str) -> bool:
    """Return whether a column may hold a value of a JSON type; text is parsed for times and decimals."""
    t = pa.types
    if t.is_string(column.type):
        return column.mixed or kind in ("string", "object", "array")
    if t.is_boolean(column.type):
        return kind == "boolean"
    if t.is_integer(column.type) or t.is_floating(column.type):
        return kind in ("integer", "number")
    return kind == "string" or (t.is_decimal(column.type) and kind in ("integer", "number"))
