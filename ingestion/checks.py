"""Contracts, checked on Arrow columns before anything is loaded: what a table may look like, what a row may hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ingestion.spec import Chunk, Rejected
from warehouse.errors import GranaryError
from warehouse.records import Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingestion.spec import Column, Table


class ContractBrokenError(GranaryError):
    """A source delivered another shape than agreed: the load of that table stops, and nothing of it lands."""

    def __init__(self, column: str, change: str, detail: str, where: str) -> None:
        """Keep what ops.schema_changes records."""
        self.column, self.change, self.detail = column, change, detail
        super().__init__(
            f"the contract is broken: column {column} is {change}: {detail}",
            where,
            "ask the source's owner, or change the table's contract in ingestion/sources/",
        )


@dataclass(frozen=True)
class Shape:
    """How a delivered schema maps to the contract: the columns to load, and those that are new."""

    fields: tuple[pa.Field, ...]
    added: tuple[pa.Field, ...]


def shape(table: Table, delivered: pa.Schema, where: str) -> Shape:
    """Compare a delivered schema with the contract.

    Raises:
        ContractBrokenError: a column is missing, of another type, or new where the contract refuses new ones.
    """
    names = list(delivered.names)
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ContractBrokenError(twice, "retyped", "it is there twice", where)
    for column in table.columns:
        if column.name not in names:
            raise ContractBrokenError(column.name, "missing", "the contract has it, the source has not", where)
        found = delivered.field(column.name).type
        if not convertible(found, column.type):
            raise ContractBrokenError(column.name, "retyped", f"{column.type} was agreed, {found} came", where)
    known = {column.name for column in table.columns}
    extra = [field for field in delivered if field.name not in known]
    if extra and table.new_columns == "refuse":
        raise ContractBrokenError(extra[0].name, "added", f"{extra[0].type}, and the contract refuses new ones", where)
    added = tuple(pa.field(f.name, plain(f.type)) for f in extra) if table.new_columns == "add" else ()
    return Shape((*table.schema, *added), added)


def convertible(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Return whether every value of `found` can be a value of `wanted` (a null column can be anything)."""
    t = pa.types
    if t.is_dictionary(found):
        return convertible(found.value_type, wanted)
    return bool(
        found == wanted
        or t.is_null(found)
        or (t.is_string(wanted) and (t.is_large_string(found) or t.is_string_view(found)))
        or (t.is_integer(wanted) and t.is_integer(found))
        or (t.is_floating(wanted) and (t.is_floating(found) or t.is_integer(found)))
        or (t.is_timestamp(wanted) and t.is_timestamp(found) and (found.tz is None) == (wanted.tz is None))
    )


def plain(found: pa.DataType) -> pa.DataType:
    """Return the raw type of a column that no contract names; what has no plain type lands as text."""
    t = pa.types
    if t.is_dictionary(found):
        return plain(found.value_type)
    if t.is_integer(found):
        return pa.int64()
    if t.is_floating(found):
        return pa.float64()
    if t.is_timestamp(found):
        return pa.timestamp("us", tz=found.tz)
    if t.is_boolean(found) or t.is_date32(found) or t.is_decimal128(found):
        return found
    return pa.string()


def conform(
    table: Table, shaped: Shape, chunk: Chunk, first: int, where: str
) -> tuple[pa.RecordBatch, pa.Array, list[Refusal]]:
    """Cast a run of rows to the contract and split off those that break it.

    Args:
        table: the contract.
        shaped: what `shape` found for the unit.
        chunk: rows as delivered.
        first: the place of the run's first row in its unit, from 1.
        where: the unit, for errors.

    Returns:
        The accepted rows with exactly `shaped.fields`, their places in the unit (int32), and the refused rows.
    """
    batch = chunk.batch
    columns = [_cast(batch.column(field.name), field, where) for field in shaped.fields]
    places = chunk.places(first)
    broken: dict[int, tuple[str, str]] = {}
    for column, values in zip(table.columns, columns, strict=False):
        for problem, mask in _problems(column, values):
            for index in pc.indices_nonzero(mask).to_pylist():
                broken.setdefault(index, (column.name, problem))
    refusals = [Refusal(first + index, bad.column, bad.reason, bad.payload) for index, bad in chunk.rejected]
    if broken:
        refusals += [
            Refusal(places[index].as_py(), name, problem, batch.slice(index, 1).to_pylist()[0])
            for index, (name, problem) in broken.items()
        ]
        keep = pa.array([index not in broken for index in range(batch.num_rows)])
        columns, places = [values.filter(keep) for values in columns], places.filter(keep)
    accepted = pa.RecordBatch.from_arrays(columns, schema=pa.schema(shaped.fields))
    return accepted, places, sorted(refusals, key=lambda refusal: refusal.row)


def _cast(values: pa.Array, field: pa.Field, where: str) -> pa.Array:
    if values.type == field.type:
        return values
    try:
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        # Sources may keep nanoseconds; Postgres keeps microseconds.
        return values.cast(field.type, safe=not pa.types.is_timestamp(field.type))
    except pa.ArrowInvalid as error:
        raise ContractBrokenError(field.name, "retyped", str(error).splitlines()[0], where) from None


def _problems(column: Column, values: pa.Array) -> list[tuple[str, pa.Array]]:
    """Return (reason, mask of the rows at fault) for each rule of the column that some row breaks."""
    found = []
    if not column.nullable and values.null_count:
        found.append(("is null", values.is_null()))
    if column.minimum is not None and len(values):
        least = pc.min(values).as_py()
        if least is not None and least < column.minimum:
            found.append((f"is below {column.minimum:g}", pc.fill_null(pc.less(values, column.minimum), False)))
    if column.allowed:
        outside = pc.and_(pc.is_valid(values), pc.invert(pc.is_in(values, pa.array(column.allowed))))
        if pc.any(outside).as_py():
            found.append((f"is none of {', '.join(column.allowed)}", outside))
    return found


def from_rows(table: Table, rows: Sequence[Any]) -> Chunk:
    """Turn JSON objects into a chunk with the contract's columns and those that it does not name.

    A missing key is a null. A row with a value that its column cannot hold is rejected alone.
    """
    rejected: dict[int, Rejected] = {}
    good: list[dict[str, Any]] = []
    for index, row in enumerate(rows):
        if isinstance(row, dict):
            good.append(row)
        else:
            rejected[index] = Rejected("", "is no JSON object", {"row": row})
    places = [index for index in range(len(rows)) if index not in rejected]
    arrays: dict[str, pa.Array] = {}
    for column in table.columns:
        values = [row.get(column.name) for row in good]
        if (array := _fitting(values, column.type)) is not None:
            arrays[column.name] = array
            continue
        for place, row in zip(places, good, strict=True):
            if _fitting([row.get(column.name)], column.type) is None:
                rejected.setdefault(place, Rejected(column.name, f"is no {column.type}", row))
    if len(rejected) > len(rows) - len(good):
        kept = from_rows(table, [row for index, row in enumerate(rows) if index not in rejected])
        return Chunk(kept.batch, tuple(sorted(rejected.items())))
    known = {column.name for column in table.columns}
    for name in sorted({name for row in good for name in row} - known):
        arrays[name] = _loose([row.get(name) for row in good])
    return Chunk(pa.RecordBatch.from_pydict(arrays), tuple(sorted(rejected.items())))


def _fitting(values: list[Any], wanted: pa.DataType) -> pa.Array | None:
    """Return the values as a column, or None if one does not fit."""
    try:
        return to_array(values, wanted)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return None


def to_array(values: list[Any], wanted: pa.DataType) -> pa.Array:
    """Build a column from JSON values; text is parsed only for dates and times, booleans are never numbers.

    Raises:
        pa.ArrowInvalid: a value does not fit.
    """
    t = pa.types
    if t.is_timestamp(wanted) or t.is_date(wanted):
        texts = pa.array(values, pa.string())
        if t.is_timestamp(wanted) and wanted.tz:
            return _with_zone(texts).cast(wanted)
        return texts.cast(wanted)
    if (t.is_integer(wanted) or t.is_floating(wanted)) and any(isinstance(value, bool) for value in values):
        raise pa.ArrowInvalid("a boolean is not a number")
    return pa.array(values, wanted)


def _with_zone(texts: pa.Array) -> pa.Array:
    """Parse ISO 8601 instants, each with an offset or Z; one without is refused, for it names no instant."""
    zoned = pc.match_substring_regex(texts, r"(Z|[+-]\d\d:?\d\d)$")
    if pc.all(zoned).as_py() is False:
        raise pa.ArrowInvalid("an instant has no zone")
    return texts.cast(pa.timestamp("us", tz="UTC"))


def _loose(values: list[Any]) -> pa.Array:
    """Build a column that no contract names; mixed or nested values become JSON text."""
    try:
        array = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    return (
        array
        if plain(array.type) != pa.string()
        else pa.array(
            [value if value is None or isinstance(value, str) else str(value) for value in values], pa.string()
        )
    )
