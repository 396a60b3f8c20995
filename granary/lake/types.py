"""Types of columns in a lake: exact ones that Iceberg, Delta and Parquet share, and which may follow which."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from granary.warehouse.errors import GranaryError

UNDECLARED = pa.decimal128(38, 18)
"""What a `numeric` without precision and scale is: Spark's own choice. A value with more digits is refused."""
SHORT = {pa.int8(): pa.int32(), pa.int16(): pa.int32(), pa.float16(): pa.float32()}
"""Types that Iceberg lacks, and the least that holds them."""
PLAIN = {pa.bool_(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.date32(), pa.string(), pa.binary()}


def portable(field: pa.Field) -> pa.DataType:
    """Return the type in which a column of the warehouse lies in a lake.

    Raises:
        GranaryError: there is none that every reader knows.
    """
    kind = field.type
    if pa.types.is_list(kind):
        return pa.list_(pa.field("element", portable(kind.value_field)))
    kind = SHORT.get(kind, kind)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if pa.types.is_time(kind):
        return pa.string()
    if kind in PLAIN or pa.types.is_decimal(kind):
        return kind
    raise GranaryError(f"a lake has no type for {kind}", field.name, "cast the column in the model, such as to text")


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch in the portable types."""
    columns = [
        column if column.type == field.type else pc.cast(column, field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def normal(kind: pa.DataType) -> pa.DataType:
    """Return a type as we write it, whatever variant of it a table's reader gives."""
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(pa.field("element", normal(kind.value_type)))
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    return kind


def same(one: pa.Schema, other: pa.Schema) -> bool:
    """Return whether two schemas have the same columns of the same types; their order says nothing."""
    return _types(one) == _types(other)


def check_change(before: pa.Schema, after: pa.Schema, where: str) -> None:
    """Refuse what a table of the lake cannot become: columns may come, go and widen.

    Raises:
        GranaryError: a column would get a type that does not hold its earlier values.
    """
    known = _types(before)
    for name, kind in _types(after).items():
        if name in known and not widens(known[name], kind):
            raise GranaryError(
                f"the column {name} was {known[name]} and is {kind} now, which a table cannot follow",
                where,
                "export to another place, or remove the table there first: then it begins anew",
            )


def widens(before: pa.DataType, after: pa.DataType) -> bool:
    """Return whether a type is the same as before, or a wider one, as Iceberg defines it."""
    if before == after:
        return True
    if pa.types.is_decimal(before) and pa.types.is_decimal(after):
        return bool(before.scale == after.scale and before.precision <= after.precision)
    return (before, after) in ((pa.int32(), pa.int64()), (pa.float32(), pa.float64()))


def _types(schema: pa.Schema) -> dict[str, pa.DataType]:
    return {field.name: normal(field.type) for field in schema}
