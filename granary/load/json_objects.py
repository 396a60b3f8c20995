"""JSON objects as Arrow columns: those of the contract in its types, and those that it does not name.

Every way in ends here (files, APIs, streams, webhooks). What does not fit is refused with its row and no other; nothing
is rounded, cut off or guessed.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from granary.load.types import CAST_ERRORS, instants
from granary.sources.units import Rejected, SourceBatch
from granary.warehouse.json_text import BOTH, Flaw, digits, encode, flaw_in, shown
from granary.warehouse.records import LOAD_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence, Set

    from granary.sources.spec import Table

MISFITS = (*CAST_ERRORS, ValueError, TypeError)
NAME_BYTES = 63
"""Bytes that Postgres keeps of a name."""
RESERVED = frozenset(field.name for field in LOAD_COLUMNS)
BIGINT, UINT64 = 2**63, 2**64
NUMBERS = frozenset({int, Decimal})


class Fields:
    """Which names rows may have: each column under one of its names, and so many new ones as the table may gain."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.several = {c.name: (c.name, *c.aliases) for c in table.columns if c.aliases}
        self.known: set[str] = {name for column in table.columns for name in (column.name, *column.aliases)}
        self.new: dict[str, None] = {}
        """New names so far, in the order in which they came."""

    def flaw(self, row: Set[str]) -> tuple[str, str] | None:
        """Return why a row with these names cannot be taken (the column, the reason); else note its new ones."""
        for column, names in self.several.items():
            if len(there := [name for name in names if name in row]) > 1:
                return twice(column, there)
        if row <= self.known:
            return None
        new = [name for name in row if name not in self.known]
        if self.table.new_columns == "ignore":
            new = list(filter(name_fits, new))[: self.table.max_new_columns - len(self.new)]  # enough to tell of it
        elif not all(map(name_fits, new)):
            return "", "names a field that no column can have the name of"
        elif len(self.new) + len(new) > self.table.max_new_columns:
            return "", too_many(self.table)
        self.new |= dict.fromkeys(new)
        self.known |= set(new)
        return None


def twice(column: str, names: Sequence[str]) -> tuple[str, str]:
    """Return why a row with a column under two names cannot be taken: whichever value we took, the other would go."""
    return column, f"{BOTH}, as {' and as '.join(names)}"


def too_many(table: Table) -> str:
    """Return why a row with new fields cannot be taken."""
    return f"would bring the table over {table.max_new_columns:,} columns that its contract does not name"


def name_fits(name: str) -> bool:
    """Return whether a raw column can have this name."""
    return name.isprintable() and 1 <= len(name.encode()) <= NAME_BYTES and name not in RESERVED


def from_rows(table: Table, rows: Sequence[Any]) -> SourceBatch:
    """Turn decoded JSON objects into a batch with the contract's columns and those that it does not name.

    A missing key is a null. A row with a value that its column cannot hold is rejected alone.
    """
    rejected: dict[int, Rejected] = {}
    fields = Fields(table)
    good = [row if _taken(index, row, fields, rejected) else {} for index, row in enumerate(rows)]
    arrays: dict[str, pa.Array] = {}
    for column in table.columns:
        values: Iterable[Any] = (row.get(column.name) for row in good)
        if column.aliases:
            names = fields.several[column.name]
            values = (next((row[name] for name in names if name in row), None) for row in good)
        wanted = texts if column.mixed else column.type
        arrays[column.name] = fitted(column.name, list(values), wanted, rows, rejected)
    for name in sorted(fields.new):
        arrays[name] = fitted(name, [row.get(name) for row in good], loose, rows, rejected)
    batch = pa.RecordBatch.from_pydict(arrays)
    if rejected:
        batch = batch.filter(pa.array([index not in rejected for index in range(len(rows))], pa.bool_()))
    return SourceBatch(batch, tuple(sorted(rejected.items())))


def _taken(index: int, row: Any, fields: Fields, rejected: dict[int, Rejected]) -> bool:
    """Return whether a row is an object whose names can be taken; reject it otherwise."""
    if not isinstance(row, dict):
        rejected[index] = no_object(row)
    elif found := fields.flaw(row.keys()):
        rejected[index] = Rejected(*found, shown(row))
    return index not in rejected


def no_object(row: Any) -> Rejected:
    """Return the refusal of what is not a JSON object, or one without a meaning."""
    return Rejected("", row.reason if isinstance(row, Flaw) else "is not a JSON object", {"row": shown(row)})


def fitted(
    name: str,
    values: list[Any],
    wanted: pa.DataType | Callable[[list[Any]], pa.Array],
    rows: Sequence[Any],
    rejected: dict[int, Rejected],
) -> pa.Array:
    """Build a column, of a type or by a function; values that do not fit are null, and their rows rejected."""

    def build(some: list[Any]) -> pa.Array:
        return to_array(some, wanted) if isinstance(wanted, pa.DataType) else wanted(some)

    try:
        return build(values)
    except MISFITS:
        pass
    kept = list(values)
    for index, value in enumerate(values):
        try:
            build([value])
        except MISFITS:
            reason = flaw_in(value) or f"is not a valid {wanted}"
            rejected.setdefault(index, Rejected(name, reason, shown(rows[index])))
            kept[index] = None
    return build(kept)


def to_array(values: list[Any], wanted: pa.DataType) -> pa.Array:
    """Build a column of a type from decoded JSON values.

    Text is parsed for dates, times and decimals only; a boolean is never a number; whole numbers may be written 1.0.
    Objects and lists are JSON text.

    Raises:
        one of MISFITS: a value does not fit.
    """
    t, kinds = pa.types, set(map(type, values)) - {type(None)}
    if not kinds:
        return pa.nulls(len(values), wanted)
    if t.is_string(wanted):
        return pa.array([encode(v) if isinstance(v, (dict, list)) else v for v in values], wanted)
    if t.is_timestamp(wanted) or t.is_date(wanted):
        return _times(pa.array(values, pa.string()), wanted)
    if t.is_decimal(wanted) and kinds <= {*NUMBERS, str}:
        return pa.array([None if value is None else str(value) for value in values], pa.string()).cast(wanted)
    if (t.is_integer(wanted) or t.is_floating(wanted)) and not kinds <= NUMBERS:
        raise TypeError("it is not a number")
    if t.is_integer(wanted) and Decimal in kinds:
        if any(value is not None and value != int(value) for value in values):
            raise ValueError("a fraction would be cut off")
        values = [None if value is None else int(value) for value in values]
    elif t.is_floating(wanted):
        values = [None if value is None else _float(value) for value in values]
    elif bool in kinds and not t.is_boolean(wanted):
        raise TypeError("a boolean is not a number")
    return pa.array(values, wanted)


def _float(value: int | Decimal) -> float:
    """Return a number as a double. A fraction is rounded by nature; a whole number may be a code, and is not."""
    near = float(value)
    if (isinstance(value, int) or value.as_tuple().exponent == 0) and near != value:
        raise ValueError("digits would be lost")
    return near


def _times(texts: pa.Array, wanted: pa.DataType) -> pa.Array:
    def cast(texts: pa.Array) -> pa.Array:
        zoned = pa.types.is_timestamp(wanted) and wanted.tz
        return instants(texts).cast(wanted) if zoned else texts.cast(wanted)

    try:
        return cast(texts)
    except pa.ArrowInvalid:
        # Some services write nanoseconds; Postgres keeps microseconds.
        return cast(pc.replace_substring_regex(texts, r"(\.\d{6})\d{1,6}", r"\1"))


def loose(values: list[Any]) -> pa.Array:
    """Build a column that no contract names: of booleans, of numbers if these keep their digits so, else of text.

    Raises:
        TypeError: a value holds a flaw.
    """
    kinds = set(map(type, values)) - {type(None)}
    if not kinds:
        return pa.nulls(len(values))
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds <= NUMBERS:
        numbers = [value for value in values if value is not None]
        if all(type(number) is int or number.as_tuple().exponent == 0 for number in numbers):
            whole = [None if value is None else int(value) for value in values]
            if all(-BIGINT <= number < BIGINT for number in numbers):
                return pa.array(whole, pa.int64())
            if all(0 <= number < UINT64 for number in numbers):
                return pa.array(whole, pa.uint64())
        elif all(Decimal(repr(float(number))) == number for number in numbers):
            return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return texts(values)


def texts(values: list[Any]) -> pa.Array:
    """Build a column of text, whatever the values are."""
    return pa.array([text_of(value) for value in values], pa.string())


def text_of(value: Any) -> str | None:
    """Return a value as text: text as it is, all else as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, Decimal)) and not isinstance(value, bool):
        return digits(value)
    return encode(value)
