"""Contracts, checked on Arrow columns before anything is loaded: what a table may look like, what a row may hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from granary.load.bounds import outside
from granary.load.json_objects import NAME_BYTES, name_fits, too_many
from granary.load.types import cast, fit, plain, widest
from granary.load.values import bare, readable, unpacked
from granary.sources.units import Rejected, SourceBatch, UnreadableError
from granary.warehouse.errors import GranaryError
from granary.warehouse.records import Change, Refusal, sql_type

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from granary.sources.spec import Column, Table

KEY_BYTES = 2_600
"""Bytes of a key: an entry of Postgres's index has 2,704 at most."""
AHEAD = timedelta(days=2)
"""How far a time of change may be ahead of our clock: zones differ by up to 26 hours, and clocks by some more."""

SHOWN_NAMES = 30
"""Delivered columns that an error names."""


class ContractBrokenError(GranaryError):
    """A source delivered another shape than agreed: the load of that table stops, and nothing of it lands."""

    def __init__(self, column: str, change: str, detail: str, where: str, more: str = "") -> None:
        """Keep what ops.schema_changes records; `more` is only told."""
        self.change = Change(column, change, detail)
        super().__init__(
            f"the contract is broken: column {column} is {change}: {detail}{more}",
            where,
            "ask the source's owner, or change the table's contract in ingestion/",
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
        ContractBrokenError: a column is missing, twice there, of another kind, or new where the contract refuses that,
            or none that came is the contract's.
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
        origin = _origin(table, column, names, where)
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


def _origin(table: Table, column: Column, names: Sequence[str], where: str) -> str | None:
    """Return the name under which a column was delivered."""
    present = [name for name in (column.name, *column.aliases) if name in names]
    if len(present) > 1:
        raise ContractBrokenError(column.name, "retyped", f"it is there twice, as {' and as '.join(present)}", where)
    if not present and (column.missing == "refuse" or (names and _foreign(table, names))):
        detail = "the contract has it, the source has not"
        raise ContractBrokenError(column.name, "missing", detail, where, _delivered(table, names))
    return present[0] if present else None


def _foreign(table: Table, names: Sequence[str]) -> bool:
    """Whether no delivered name is the contract's: they may be values, the first row of a file without a header."""
    return {name for column in table.columns for name in (column.name, *column.aliases)}.isdisjoint(names)


def _delivered(table: Table, names: Sequence[str]) -> str:
    """Return which columns came, unless they may be personal values."""
    if _foreign(table, names) and any(column.personal for column in table.columns):
        return f", and none of the {len(names):,} columns that came is the contract's"
    more = f" and {len(names) - SHOWN_NAMES:,} more" if len(names) > SHOWN_NAMES else ""
    return f"; what came are {', '.join(name[:NAME_BYTES] for name in names[:SHOWN_NAMES])}{more}"


def _check_name(name: str, where: str) -> None:
    """Refuse a new column whose name no raw column can have: empty, too long, unprintable, or one of ours."""
    if not name_fits(name):
        raise ContractBrokenError(repr(name)[:80], "added", "no raw column can have this name", where)


def _rounded(texts: pa.Array, doubles: pa.Array) -> pa.Array | None:
    """Return the mask of numbers that came as text, for their digits, and that doubles do not hold."""
    if not (pa.types.is_string(texts.type) and pa.types.is_floating(doubles.type)):
        return None
    pairs = zip(texts.to_pylist(), doubles.to_pylist(), strict=True)
    mask = pa.array([double is not None and Decimal(text) != Decimal(repr(double)) for text, double in pairs])
    return mask if pc.any(mask).as_py() else None


def in_future(values: pa.Array) -> pa.Array | None:
    """Return the mask of times of change that lie in the future, None if none does; whole numbers have no clock.

    The watermark would follow the first of them, and hide every change up to then. A row that is refused for it stays
    past the watermark: it is read again by each load, and lands when its time has come.
    """
    kind, latest = values.type, datetime.now(timezone.utc).replace(microsecond=0) + AHEAD
    if pa.types.is_timestamp(kind):
        limit = pa.scalar(latest if kind.tz else latest.replace(tzinfo=None), kind)
    elif pa.types.is_date(kind):
        limit = pa.scalar(latest.date(), kind)
    else:
        return None
    early = pc.fill_null(pc.greater(values, limit), False)
    return early if pc.any(early).as_py() else None


def _too_long(values: pa.Array, most: int) -> pa.Array | None:
    """Return the mask of texts of a key that are too long for its index, None if none is."""
    if not (pa.types.is_string(values.type) or pa.types.is_binary(values.type)):
        return None
    long = pc.fill_null(pc.greater(pc.binary_length(values), most), False)
    return long if pc.any(long).as_py() else None


def within_cap(
    table: Table, source_batch: SourceBatch, known: Collection[str], *, whole: bool, where: str
) -> SourceBatch:
    """Reject the rows whose new columns would be more than the table may gain, first come, first served.

    Args:
        table: the contract.
        source_batch: rows as delivered.
        known: the columns beyond the contract that the raw table has or gets.
        whole: the rows are of a unit that can be refused whole.
        where: the unit, for errors.

    Raises:
        UnreadableError: with `whole`, no row has so few columns: it is the unit that is not as agreed.
    """
    batch = source_batch.batch
    contract = {name for column in table.columns for name in (column.name, *column.aliases)}
    new = [name for name in batch.schema.names if name not in contract and name not in known]
    room = max(0, table.max_new_columns - len(known))
    if table.new_columns != "add" or len(new) <= room:
        return source_batch
    count = sum(batch.column(name).is_valid().to_numpy(zero_copy_only=False).astype(np.int32) for name in new)
    if whole and batch.num_rows and (count > room).all():
        raise UnreadableError(f"it {too_many(table)}", where, "ask for fewer, or raise the table's max_new_columns")
    holds = np.stack([batch.column(name).is_valid().to_numpy(zero_copy_only=False) for name in new])
    admitted: set[int] = set()
    good = np.ones(batch.num_rows, bool)
    for index in range(batch.num_rows):
        wanted = admitted.union(np.flatnonzero(holds[:, index]).tolist())
        good[index] = len(wanted) <= room
        admitted = wanted if good[index] else admitted
    places, rejected = source_batch.places(0), list(source_batch.rejected)
    for index in np.flatnonzero(~good).tolist():
        row = batch.slice(index, 1).to_pylist()[0]
        payload = {name: value for name, value in row.items() if value is not None}
        rejected.append((places[index].as_py(), Rejected("", too_many(table), payload)))
    dropped = {name for place, name in enumerate(new) if place not in admitted}
    kept = batch.select([name for name in batch.schema.names if name not in dropped]).filter(pa.array(good))
    return replace(source_batch, batch=kept, rejected=tuple(sorted(rejected, key=lambda pair: pair[0])))


def conform(
    table: Table, shaped: Shape, source_batch: SourceBatch, first: int
) -> tuple[pa.RecordBatch, pa.Array, list[Refusal]]:
    """Cast a run of rows to the contract and split off those that break it.

    Args:
        table: the contract.
        shaped: what `shape` found for the unit.
        source_batch: rows as delivered.
        first: the place of the run's first row in its unit, from 1.

    Returns:
        The accepted rows with exactly `shaped.fields`, their places in the unit (int32), and the refused rows.
    """
    batch = source_batch.batch
    contract = {column.name: column for column in table.columns}
    columns: list[pa.Array] = []
    broken: dict[int, tuple[str, str]] = {}
    for field, origin in zip(shaped.fields, shaped.origins, strict=True):
        if origin is None:
            values, misfits = pa.nulls(batch.num_rows, field.type), None
        else:
            words = contract[field.name].null if field.name in contract else ()
            given = without(batch.column(origin), words)
            values, misfits = cast(given, field.type, text=source_batch.text)
            if not source_batch.text and (rounded := _rounded(given, values)) is not None:
                misfits = rounded if misfits is None else pc.or_(misfits, rounded)
        columns.append(values)
        problems = _problems(contract.get(field.name), values)
        if field.name == table.cursor and (early := in_future(values)) is not None:
            problems.append(("lies in the future", early))
        if field.name in table.key and (long := _too_long(values, KEY_BYTES // len(table.key))) is not None:
            problems.append((f"is longer than the {KEY_BYTES // len(table.key):,} bytes that a key may have", long))
        if misfits is not None:
            problems.insert(0, (f"is not a valid {field.type}", misfits))
        for problem, mask in problems:
            for index in pc.indices_nonzero(mask).to_pylist():
                broken.setdefault(index, (field.name, problem))
    places = source_batch.places(first)
    refusals = [
        _refusal(source_batch, first, index, bad.column, bad.reason, bad.payload, bad.line)
        for index, bad in source_batch.rejected
    ]
    if broken:
        refusals += [
            _refusal(source_batch, first, places[index].as_py() - first, name, problem, row_of(batch, index))
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
    """Return the columns whose times have parts of a microsecond, which Postgres does not keep: reported once."""
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
    source_batch: SourceBatch,
    first: int,
    index: int,
    column: str,
    reason: str,
    payload: dict[str, Any],
    line: int | None = None,
) -> Refusal:
    """Return what the quarantine keeps of the row at an index of the run."""
    if line is None and source_batch.line is not None:
        line = source_batch.line + index
    return Refusal(first + index, column, reason, payload, line)


def _problems(column: Column | None, values: pa.Array) -> list[tuple[str, pa.Array]]:
    """Return (reason, mask of the rows at fault) for each rule of the column that some row breaks."""
    found = []
    if pa.types.is_string(values.type) and holds_nul(values):
        found.append(("holds a NUL character", pc.fill_null(pc.match_substring(values, "\0"), False)))
    if pa.types.is_string(values.type) and (broken := no_text(values)) is not None:
        found.append(("is not text: its bytes are no UTF-8", broken))
    if column is None:
        return [*found, *outside(column, values)]
    if not column.nullable and values.null_count:
        found.append(("is null", values.is_null()))
    found += outside(column, values)
    if column.allowed:
        others = pc.and_(pc.is_valid(values), pc.invert(pc.is_in(values, pa.array(column.allowed))))
        if pc.any(others).as_py():
            found.append((f"is none of {', '.join(column.allowed)}", others))
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
