"""Contracts, checked on Arrow columns before anything is loaded: what a table may look like, what a row may hold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ingestion.spec import Chunk, Rejected
from ingestion.types import CAST_ERRORS, cast, fit, instants, plain, widest
from ingestion.values import bare, readable, unpacked
from warehouse.errors import GranaryError
from warehouse.records import LOAD_COLUMNS, Change, Refusal, sql_type

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ingestion.spec import Column, Table

NAME_BYTES = 63
"""Bytes that Postgres keeps of a name."""


class ContractBrokenError(GranaryError):
    """A source delivered another shape than agreed: the load of that table stops, and nothing of it lands."""

    def __init__(self, column: str, change: str, detail: str, where: str) -> None:
        """Keep what ops.schema_changes records."""
        self.change = Change(column, change, detail)
        super().__init__(
            f"the contract is broken: column {column} is {change}: {detail}",
            where,
            "ask the source's owner, or change the table's contract in ingestion/sources/",
        )


@dataclass(frozen=True)
class Shape:
    """How a delivered schema maps to the contract.

    `fields` are the columns to load: those of the contract, in the raw table's types, then the new ones. `origins`
    are the delivered names of the same columns, None for one that was not delivered.
    """

    fields: tuple[pa.Field, ...]
    origins: tuple[str | None, ...]
    changes: tuple[Change, ...]


def shape(
    table: Table,
    delivered: pa.Schema,
    where: str,
    raw: Mapping[str, pa.DataType] = MappingProxyType({}),
    *,
    text: bool = False,
) -> Shape:
    """Compare a delivered schema with the contract.

    Args:
        table: the contract.
        delivered: the schema of a run of rows.
        where: the unit, for errors.
        raw: types of raw columns that are wider than the contract says, from earlier deliveries.
        text: string columns hold text that is still to be parsed.

    Raises:
        ContractBrokenError: a column is missing, twice there, of another kind, or new where the contract refuses that.
    """
    names = list(delivered.names)
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ContractBrokenError(twice, "retyped", "it is there twice", where)
    fields: list[pa.Field] = []
    origins: list[str | None] = []
    changes: list[Change] = []
    for column in table.columns:
        wanted = raw.get(column.name, column.type)
        origin = _origin(column, names, where)
        origins.append(origin)
        if origin is None:
            changes.append(Change(column.name, "missing", "the contract has it, the source has not"))
            fields.append(pa.field(column.name, wanted))
            continue
        if origin != column.name:
            changes.append(Change(column.name, "renamed", f"delivered as {origin}"))
        found = delivered.field(origin).type
        parsed = text and pa.types.is_string(found)
        fits = "fits" if parsed else fit(found, wanted)
        if fits == "no" or (fits == "may" and table.retyped == "refuse"):
            raise ContractBrokenError(column.name, "retyped", f"{column.type} was agreed, {found} came", where)
        if fits == "may" and table.retyped == "widen":
            wanted = widest(found, wanted)
        elif fits == "may":
            changes.append(Change(column.name, "narrowed", f"{wanted} was agreed, {found} came: what fits is loaded"))
        fields.append(pa.field(column.name, wanted))
    for name in names:
        if name not in origins:
            kind = plain(delivered.field(name).type)
            if table.new_columns == "refuse":
                raise ContractBrokenError(name, "added", f"{kind}, and the contract refuses new ones", where)
            if table.new_columns == "ignore":
                changes.append(Change(name, "ignored", f"{kind}, and the contract ignores new ones"))
                continue
            _check_name(name, where)
            changes.append(Change(name, "added", sql_type(raw.get(name, kind))))
            fields.append(pa.field(name, raw.get(name, kind)))
            origins.append(name)
    return Shape(tuple(fields), tuple(origins), tuple(changes))


def _origin(column: Column, names: Sequence[str], where: str) -> str | None:
    """Return the name under which a column was delivered."""
    present = [name for name in (column.name, *column.aliases) if name in names]
    if len(present) > 1:
        raise ContractBrokenError(column.name, "retyped", f"it is there twice, as {' and as '.join(present)}", where)
    if not present and column.missing == "refuse":
        raise ContractBrokenError(column.name, "missing", "the contract has it, the source has not", where)
    return present[0] if present else None


def _check_name(name: str, where: str) -> None:
    """Refuse a new column whose name no raw column can have: empty, too long, unprintable, or one of ours."""
    if not name.isprintable() or not 1 <= len(name.encode()) <= NAME_BYTES or name in {f.name for f in LOAD_COLUMNS}:
        raise ContractBrokenError(repr(name)[:80], "added", "no raw column can have this name", where)


def conform(table: Table, shaped: Shape, chunk: Chunk, first: int) -> tuple[pa.RecordBatch, pa.Array, list[Refusal]]:
    """Cast a run of rows to the contract and split off those that break it.

    Args:
        table: the contract.
        shaped: what `shape` found for the unit.
        chunk: rows as delivered.
        first: the place of the run's first row in its unit, from 1.

    Returns:
        The accepted rows with exactly `shaped.fields`, their places in the unit (int32), and the refused rows.
    """
    batch = chunk.batch
    contract = {column.name: column for column in table.columns}
    columns: list[pa.Array] = []
    broken: dict[int, tuple[str, str]] = {}
    for field, origin in zip(shaped.fields, shaped.origins, strict=True):
        if origin is None:
            values, misfits = pa.nulls(batch.num_rows, field.type), None
        else:
            words = contract[field.name].null if field.name in contract else ()
            values, misfits = cast(without(batch.column(origin), words), field.type, text=chunk.text)
        columns.append(values)
        problems = _problems(contract.get(field.name), values)
        if misfits is not None:
            problems.insert(0, (f"is no {field.type}", misfits))
        for problem, mask in problems:
            for index in pc.indices_nonzero(mask).to_pylist():
                broken.setdefault(index, (field.name, problem))
    places = chunk.places(first)
    refusals = [
        _refusal(chunk, first, index, bad.column, bad.reason, bad.payload, bad.line) for index, bad in chunk.rejected
    ]
    if broken:
        refusals += [
            _refusal(chunk, first, places[index].as_py() - first, name, problem, row_of(batch, index))
            for index, (name, problem) in broken.items()
        ]
        keep = pa.array([index not in broken for index in range(batch.num_rows)])
        columns, places = [values.filter(keep) for values in columns], places.filter(keep)
    accepted = pa.RecordBatch.from_arrays(columns, schema=pa.schema(shaped.fields))
    return accepted, places, sorted(refusals, key=lambda refusal: refusal.row)


def without(values: pa.Array, words: Sequence[str]) -> pa.Array:
    """Return text with null in place of the words that stand for no value; anything but text as it is."""
    if not words or not pa.types.is_string(values.type):
        return values
    none = pc.is_in(pc.utf8_trim_whitespace(values), pa.array(words, pa.string()))
    return pc.if_else(none, pa.scalar(None, pa.string()), values)


def cut_off(shaped: Shape, batch: pa.RecordBatch) -> list[Change]:
    """Return the columns whose times have parts of a microsecond, which Postgres does not keep: they are told once."""
    found = []
    for field, origin in zip(shaped.fields, shaped.origins, strict=True):
        if (
            origin is None
            or not pa.types.is_timestamp(field.type)
            or not pa.types.is_timestamp(bare(batch.schema.field(origin).type))
        ):
            continue
        values = unpacked(batch.column(origin))
        if values.type.unit == "ns" and (values.view(pa.int64()).fill_null(0).to_numpy() % 1000).any():
            found.append(Change(field.name, "narrowed", "nanoseconds came: parts of a microsecond are cut off"))
    return found


def row_of(batch: pa.RecordBatch, index: int) -> dict[str, Any]:
    """Return a row for people to read, whatever it holds."""
    return {name: readable(values, index) for name, values in zip(batch.schema.names, batch.columns, strict=True)}


def _refusal(
    chunk: Chunk, first: int, index: int, column: str, reason: str, payload: dict[str, Any], line: int | None = None
) -> Refusal:
    """Return what the quarantine keeps of the row at an index of the run."""
    if line is None and chunk.line is not None:
        line = chunk.line + index
    return Refusal(first + index, column, reason, payload, line)


def _problems(column: Column | None, values: pa.Array) -> list[tuple[str, pa.Array]]:
    """Return (reason, mask of the rows at fault) for each rule of the column that some row breaks."""
    found = []
    if pa.types.is_string(values.type) and holds_nul(values):
        found.append(("holds a NUL character", pc.fill_null(pc.match_substring(values, "\0"), False)))
    if pa.types.is_string(values.type) and (broken := no_text(values)) is not None:
        found.append(("is no text: its bytes are no UTF-8", broken))
    if column is None:
        return found
    if not column.nullable and values.null_count:
        found.append(("is null", values.is_null()))
    if (column.minimum is not None or column.maximum is not None) and len(values):
        extremes = pc.min_max(values).as_py()
        low, high = column.minimum, column.maximum
        if low is not None and extremes["min"] is not None and extremes["min"] < low:
            found.append((f"is below {low:g}", pc.fill_null(pc.less(values, low), False)))
        if high is not None and extremes["max"] is not None and extremes["max"] > high:
            found.append((f"is above {high:g}", pc.fill_null(pc.greater(values, high), False)))
    if column.allowed:
        outside = pc.and_(pc.is_valid(values), pc.invert(pc.is_in(values, pa.array(column.allowed))))
        if pc.any(outside).as_py():
            found.append((f"is none of {', '.join(column.allowed)}", outside))
    return found


def holds_nul(values: pa.Array) -> bool:
    """Return whether some text holds a NUL character, which Postgres cannot; looks at the bytes, not at each value."""
    data = values.buffers()[-1]
    if data is None or not len(values):
        return False
    ends = np.frombuffer(values.buffers()[1], np.int32)[values.offset : values.offset + len(values) + 1]
    return not np.frombuffer(data, np.uint8)[ends[0] : ends[-1]].all()


def no_text(values: pa.Array) -> pa.Array | None:
    """Return the mask of texts whose bytes are no UTF-8, which Postgres cannot hold; None if all are.

    Formats that say where a text ends (Parquet, ORC) let in any bytes.
    """
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return pa.array([not _decodes(each) for each in values.cast(pa.binary()).to_pylist()])
    return None


def _decodes(text: bytes | None) -> bool:
    try:
        return text is None or bool(text.decode()) or True
    except UnicodeDecodeError:
        return False


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
        name = column.name
        values = [_value(row, column) for row in good] if column.aliases else [row.get(name) for row in good]
        if column.mixed:
            values = [as_written(value) for value in values]
            arrays[column.name] = pa.array(values, pa.string())
            continue
        if (array := _fitting(values, column.type)) is not None:
            arrays[column.name] = array
            continue
        for place, row in zip(places, good, strict=True):
            if _fitting([_value(row, column)], column.type) is None:
                rejected.setdefault(place, Rejected(column.name, f"is no {column.type}", row))
    if len(rejected) > len(rows) - len(good):
        kept = from_rows(table, [row for index, row in enumerate(rows) if index not in rejected])
        return Chunk(kept.batch, tuple(sorted(rejected.items())))
    known = {name for column in table.columns for name in (column.name, *column.aliases)}
    for name in sorted({name for row in good for name in row} - known):
        arrays[name] = _loose([row.get(name) for row in good])
    return Chunk(pa.RecordBatch.from_pydict(arrays), tuple(sorted(rejected.items())))


def as_written(value: Any) -> str | None:
    """Return a JSON value as text: a text itself, numbers and truth values as JSON writes them."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (bool, dict, list)) else str(value)


def _value(row: dict[str, Any], column: Column) -> Any:
    """Return a row's value of a column, under whichever of its names it came."""
    return next((row[name] for name in (column.name, *column.aliases) if name in row), None)


def _fitting(values: list[Any], wanted: pa.DataType) -> pa.Array | None:
    """Return the values as a column, or None if one does not fit."""
    try:
        return to_array(values, wanted)
    except CAST_ERRORS:
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
            return instants(texts).cast(wanted)
        return texts.cast(wanted)
    if t.is_decimal(wanted) and not any(isinstance(value, bool) for value in values):
        return pa.array([None if value is None else str(value) for value in values], pa.string()).cast(wanted)
    if (t.is_integer(wanted) or t.is_floating(wanted)) and any(isinstance(value, bool) for value in values):
        raise pa.ArrowInvalid("a boolean is not a number")
    if t.is_integer(wanted) and any(isinstance(value, float) and not value.is_integer() for value in values):
        raise pa.ArrowInvalid("a fraction is no whole number")
    return pa.array(values, wanted)


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
