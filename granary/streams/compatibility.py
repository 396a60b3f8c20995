"""Whether what was written with an Avro schema can be read as a table's contract wants it.

Resolution of a writer's schema to ours follows the Avro specification, and is stricter in one thing: what has a meaning
(an instant, a date, a decimal) is not read from a bare number
(https://avro.apache.org/docs/1.11.1/specification/#schema-resolution).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.warehouse.records import Change

if TYPE_CHECKING:
    from granary.sources.spec import Column, Table

UINT64_DIGITS = 20
PROMOTED = {
    "int": ("int", "long", "float", "double"),
    "long": ("long", "float", "double"),
    "float": ("float", "double"),
    "double": ("double",),
    "string": ("string", "bytes"),
    "bytes": ("bytes", "string"),
    "boolean": ("boolean",),
}
"""Writer's type -> types that it may be read as."""

TEXT = ("string", "enum", "uuid", "record", "array", "map", "duration", "unbounded decimal", "any")
"""What text is made of: what is nested is JSON, what no other kind of schema has is told by a word of ours."""


JSON = {
    "string": (pa.types.is_string, pa.types.is_temporal, pa.types.is_decimal),
    "integer": (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
    "number": (pa.types.is_floating, pa.types.is_decimal),
    "boolean": (pa.types.is_boolean,),
    "object": (pa.types.is_string,),
    "array": (pa.types.is_string,),
}
"""Types of JSON -> what they may be read as, value by value: JSON writes instants and exact numbers as text."""


def contract_schema(table: Table) -> dict[str, Any]:
    """Return a contract as the Avro schema of a reader: null is the default where a column may be missing."""
    fields = []
    for column in table.columns:
        kind = avro_type(column.type)
        field: dict[str, Any] = {"name": column.name, "type": ["null", kind] if column.nullable else kind}
        if column.aliases:
            field["aliases"] = list(column.aliases)
        if column.missing == "null":
            field["default"] = None
        fields.append(field)
    return {"type": "record", "name": table.name, "fields": fields}


def avro_type(kind: pa.DataType) -> Any:
    """Return the Avro type of a contract's type."""
    t = pa.types
    if t.is_timestamp(kind):
        return {"type": "long", "logicalType": "timestamp-micros" if kind.tz else "local-timestamp-micros"}
    if t.is_date(kind):
        return {"type": "int", "logicalType": "date"}
    if t.is_decimal(kind):
        return {"type": "bytes", "logicalType": "decimal", "precision": kind.precision, "scale": kind.scale}
    if t.is_integer(kind):
        return "long" if kind.bit_width == 64 else "int"  # noqa: PLR2004 - bits
    if t.is_floating(kind):
        return "double" if kind.bit_width == 64 else "float"  # noqa: PLR2004 - bits
    return "boolean" if t.is_boolean(kind) else "bytes" if t.is_binary(kind) else "string"


def incompatibilities(table: Table, writer: Any) -> list[Change]:
    """Return why a contract cannot read what was written with a schema; nothing if it can (backward compatibility).

    A contract column must be there under its name or an alias, or be one that may be missing, and its written type
    must be one that Avro promotes to ours (int → long → float → double), with the same meaning: an instant is not
    read from a number. A union is readable if each of its branches but null is.
    """
    if not isinstance(writer, dict) or writer.get("type") != "record":
        return [Change(table.name, "retyped", "the schema is not a record")]
    written = {field["name"]: field["type"] for field in writer["fields"]}
    found = []
    for column in table.columns:
        names = [name for name in (column.name, *column.aliases) if name in written]
        if len(names) > 1:
            found.append(Change(column.name, "retyped", f"it is there twice, as {' and as '.join(names)}"))
        name = names[0] if names else None
        if name is None:
            if column.missing == "refuse":
                found.append(Change(column.name, "missing", "the contract has it, the schema has not"))
            continue
        bad = next((kind for kind in branches(written[name]) if not _readable(kind, column)), None)
        if bad is not None:
            found.append(Change(column.name, "retyped", f"{column.type} was agreed, the schema has {name_of(bad)}"))
    if table.new_columns == "refuse":
        known = {name for column in table.columns for name in (column.name, *column.aliases)}
        found += [
            Change(
                name, "added", f"{name_of(branches(kind)[0] if branches(kind) else 'null')}, the contract refuses it"
            )
            for name, kind in written.items()
            if name not in known
        ]
    return found


def branches(kind: Any) -> list[Any]:
    """Return the types that a field may have, but null."""
    return [one for one in (kind if isinstance(kind, list) else [kind]) if one != "null"]


def name_of(kind: Any) -> str:
    """Return what an Avro type is called: its logical type, if it has one."""
    if isinstance(kind, dict):
        return str(kind.get("logicalType") or kind.get("type"))
    return str(kind)


def _readable(kind: Any, column: Column) -> bool:  # noqa: PLR0911 - one rule, one line
    """Return whether values of a written type can be values of a contract's column."""
    written, t, wanted = name_of(kind), pa.types, column.type
    if isinstance(kind, dict) and kind.get("json"):
        return any(test(wanted) for test in JSON.get(written, ())) or (column.mixed and written in JSON)
    if isinstance(kind, dict) and written == "decimal":
        return bool(
            t.is_decimal(wanted)
            and wanted.scale >= kind.get("scale", 0)
            and wanted.precision - wanted.scale >= kind["precision"] - kind.get("scale", 0)
        )
    if written == "any" or (written == "unbounded decimal" and t.is_decimal(wanted)):
        return True  # value by value
    if written == "uint64" and not t.is_string(wanted):
        return bool(
            (t.is_integer(wanted) and wanted.bit_width == 64)  # noqa: PLR2004 - bits; value by value
            or (t.is_decimal(wanted) and wanted.precision - wanted.scale >= UINT64_DIGITS)
        )
    if written == "duration" and not t.is_string(wanted):
        return bool(t.is_decimal(wanted) or t.is_floating(wanted))
    if t.is_timestamp(wanted):
        return written in [f"{'' if wanted.tz else 'local-'}timestamp-{unit}" for unit in ("millis", "micros", "nanos")]
    if t.is_date(wanted):
        return written == "date"
    if t.is_string(wanted):
        return written in TEXT or "string" in PROMOTED.get(written, ())
    ours = avro_type(wanted)
    return isinstance(ours, str) and ours in PROMOTED.get(written, ())
