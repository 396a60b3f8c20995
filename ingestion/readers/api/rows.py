"""JSON rows to Arrow: columns by the contract's types, rows that do not fit refused alone."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from math import isfinite
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ingestion.checks import ContractBrokenError
from ingestion.readers.api.pages import dig
from ingestion.spec import Chunk, Rejected
from ingestion.types import CAST_ERRORS, instants

if TYPE_CHECKING:
    from collections.abc import Collection

    from ingestion.spec import Column, Table

MISFITS = (*CAST_ERRORS, ValueError, TypeError, RecursionError)
LONG = re.compile(rb"\d{20}|(?=[\d.]{17})\d+\.\d")
"""Numbers that a 64-bit integer or a double may not hold to the last digit."""

ONLY_DIGITS = bytes(ord("0") if chr(byte) in "0123456789." else ord(" ") for byte in range(256))
"""Makes digits and points alike, so that a long number is found 20 times as fast as by the pattern alone."""

MANY = 20
"""A column that none of so many rows has is gone."""


def parse(body: bytes) -> Any:
    """Return a JSON document's value; integers and decimals keep every digit.

    Raises:
        ValueError: it is no JSON, is nested too deep to be parsed, or holds NaN or Infinity.
    """
    import orjson  # noqa: PLC0415 - only this kind of source pays for it

    body = body.removeprefix(b"\xef\xbb\xbf")
    if b"0" * 17 not in body.translate(ONLY_DIGITS) or not LONG.search(body):
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            pass  # the other parser may take it: halves of characters, which cost one row and not the page
    try:
        return json.loads(body, parse_float=Decimal, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _no_number(name: str) -> None:
    raise ValueError(f"it holds {name}")


class Rows:
    """Turns the pages of one load into chunks, and remembers which of the contract's columns have come.

    A column is found under its name or an alias; "address.city" is the part of a nested object. The other parts of
    that object, and all else that no contract names, become columns of text (address_zip); objects and lists are
    kept there as JSON. `tables` are the lists that are tables of their own.
    """

    def __init__(self, table: Table, max_depth: int, tables: Collection[str] = ()) -> None:
        self.table, self.max_depth = table, max_depth
        names = {column.name: (column.name, *column.aliases) for column in table.columns}
        self.declared = {name for several in names.values() for name in several} | set(tables)
        self.objects = {name[:i] for name in self.declared for i, letter in enumerate(name) if letter == "."}
        # The column customer may be customer.name: then the whole object is not it.
        self.names = {name: [n for n in several if n not in self.objects] for name, several in names.items()}
        self.seen: set[str] = set()
        self.count = 0

    def chunk(self, delivered: list[Any]) -> Chunk:
        """Return the rows of a page; one that is `Rejected` already stays so."""
        self.count += len(delivered)
        rejected: dict[int, Rejected] = {}
        rows: list[dict[str, Any]] = delivered
        if set(map(type, delivered)) - {dict}:
            for index, row in enumerate(delivered):
                if not isinstance(row, dict):
                    wrong = Rejected("", "is no JSON object", {"row": row})
                    rejected[index] = row if isinstance(row, Rejected) else wrong
            rows = [{} if index in rejected else row for index, row in enumerate(delivered)]
        paths = self._paths(rows, rejected)
        arrays: dict[str, pa.Array] = {}
        for column in self.table.columns:
            name, values = self._column(column, rows, paths)
            arrays[name] = self._array(column.name, values, None if column.mixed else column.type, rows, rejected)
        for path in sorted(paths - self.declared - self.objects):
            values = _values(rows, path)
            if any(value is not None for value in values):
                name = path.replace(".", "_")
                name = path if name in arrays else name
                arrays[name] = self._array(name, values, None, rows, rejected)
        batch = pa.RecordBatch.from_pydict(arrays)
        if rejected:
            batch = batch.filter(pa.array([index not in rejected for index in range(len(rows))]))
        return Chunk(batch, tuple(sorted(rejected.items())))

    def finish(self, where: str) -> None:
        """Check, at a unit's end, that the columns of the contract have come.

        Services leave out what is null, so a few rows without a column say nothing.

        Raises:
            ContractBrokenError: a column that may not be missing is in none of many rows.
        """
        for column in self.table.columns:
            if self.count >= MANY and column.missing == "refuse" and column.name not in self.seen:
                raise ContractBrokenError(column.name, "missing", f"none of {self.count:,} rows has it", where)

    def _paths(self, rows: list[dict[str, Any]], rejected: dict[int, Rejected]) -> set[str]:
        """Return the paths that occur: all names of the rows, and those within objects that the contract takes apart.

        What should be such an object and is none is rejected.
        """
        found = set().union(*rows)
        for path in sorted(self.objects):
            if path.partition(".")[0] not in found:
                continue
            for index, row in enumerate(rows):
                value = dig(row, path, None)
                if isinstance(value, dict):
                    found |= {f"{path}.{name}" for name in value}
                elif value is not None:
                    rejected.setdefault(index, Rejected(path, "is no JSON object", row))
        return found

    def _column(self, column: Column, rows: list[dict[str, Any]], paths: set[str]) -> tuple[str, list[Any]]:
        """Return the name under which a column came, as far as the contract should hear of it, and its values."""
        present = [name for name in self.names[column.name] if name in paths]
        if not present:
            return column.name, [None] * len(rows)
        self.seen.add(column.name)
        values = _values(rows, present[0])
        for name in present[1:]:
            values = [
                mine if mine is not None else other for mine, other in zip(values, _values(rows, name), strict=True)
            ]
        renamed = len(present) == 1 and "." not in present[0]
        return present[0] if renamed else column.name, values

    def _array(
        self,
        name: str,
        values: list[Any],
        wanted: pa.DataType | None,
        rows: list[dict[str, Any]],
        rejected: dict[int, Rejected],
    ) -> pa.Array:
        """Build a column, with nulls for values that do not fit, whose rows are rejected."""
        try:
            return self._fitting(values, wanted)
        except MISFITS:
            bad = {index for index, value in enumerate(values) if not self._fits(value, wanted)}
        for index in bad:
            rejected.setdefault(index, Rejected(name, f"is no {wanted or 'text'}", _cut(rows[index], self.max_depth)))
        return self._fitting([None if index in bad else value for index, value in enumerate(values)], wanted)

    def _fits(self, value: Any, wanted: pa.DataType | None) -> bool:
        try:
            self._fitting([value], wanted)
        except MISFITS:
            return False
        return True

    def _fitting(self, values: list[Any], wanted: pa.DataType | None) -> pa.Array:
        """Build a column of the wanted type, or of text for a column that no contract names.

        Raises:
            one of MISFITS: a value does not fit. Nothing is rounded, cut off or guessed.
        """
        kinds = set(map(type, values)) - {type(None)}
        if not kinds:
            return pa.nulls(len(values), wanted or pa.string())
        if wanted is None or (pa.types.is_string(wanted) and kinds & {dict, list}):
            return pa.array([self._text(value, loose=wanted is None) for value in values], pa.string())
        return to_array(values, kinds, wanted)

    def _text(self, value: Any, *, loose: bool) -> Any:
        """Return text for any value if `loose`, else only for objects and lists."""
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, (dict, list)):
            if depth(value) > self.max_depth:
                raise ValueError(f"nested deeper than {self.max_depth} levels")
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
        if not loose:
            return value  # which is no text, as Arrow will say
        return json.dumps(value) if isinstance(value, bool) else str(value)


def to_array(values: list[Any], kinds: set[type], wanted: pa.DataType) -> pa.Array:
    """Build a column from JSON values of these Python types.

    Text is parsed for dates, times and decimals only; a boolean is never a number; whole numbers may be written 1.0.

    Raises:
        one of MISFITS: a value does not fit.
    """
    t = pa.types
    if t.is_timestamp(wanted) or t.is_date(wanted):
        return _times(pa.array(values, pa.string()), wanted)
    if t.is_decimal(wanted) and kinds <= {int, float, Decimal, str}:
        return pa.array([None if value is None else str(value) for value in values], pa.string()).cast(wanted)
    if t.is_integer(wanted) and kinds <= {float, Decimal, int} and kinds != {int}:
        if any(value is not None and (not isfinite(value) or value != int(value)) for value in values):
            raise ValueError("a fraction would be cut off")
        values = [None if value is None else int(value) for value in values]
    elif t.is_floating(wanted) and Decimal in kinds and bool not in kinds:
        values = [None if value is None else float(value) for value in values]
        if not all(value is None or isfinite(value) for value in values):
            raise ValueError("a number is too large")
    elif bool in kinds and not t.is_boolean(wanted):
        raise TypeError("a boolean is not a number")
    return pa.array(values, wanted)


def _times(texts: pa.Array, wanted: pa.DataType) -> pa.Array:
    def cast(texts: pa.Array) -> pa.Array:
        zoned = pa.types.is_timestamp(wanted) and wanted.tz
        return instants(texts).cast(wanted) if zoned else texts.cast(wanted)

    try:
        return cast(texts)
    except pa.ArrowInvalid:
        # Some services write nanoseconds; Postgres keeps microseconds.
        return cast(pc.replace_substring_regex(texts, r"(\.\d{6})\d{1,6}", r"\1"))


def _values(rows: list[dict[str, Any]], path: str) -> list[Any]:
    try:
        return list(map(itemgetter(path), rows))
    except KeyError:
        return [dig(row, path, None) for row in rows]


def depth(value: Any) -> int:
    """Return how many levels of objects and lists a value has, without recursion."""
    level, levels = [value], 0
    while level := [part for part in level if isinstance(part, (dict, list))]:
        levels += 1
        level = [inner for part in level for inner in (part.values() if isinstance(part, dict) else part)]
    return levels


def _cut(row: dict[str, Any], most: int) -> dict[str, Any]:
    """Return a refused row as it can be kept: a part that is nested too deep is only named."""
    return {name: value if depth(value) <= most else f"nested deeper than {most} levels" for name, value in row.items()}
