"""What a sample shows of each column and which columns may be a key: the evidence that contracts and tests rest on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations
from math import prod
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from granary.profiling.names import is_free_text, looks_like_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FEW_VALUES = 12
LEAST_ROWS = 20
"""Fewer rows than this prove no enumeration."""
ROWS_PER_VALUE = 4
"""A column counts as an enumeration only if its values come this often on average."""
LONGEST_VALUE = 40
PAIRED = 10
"""Columns that combinations are tried of: at most 375 of two to four."""
MOST_COLUMNS = 4
TRIED_ROWS = 2_000
"""Rows on which most combinations show that they are none."""
AMOUNT = (
    r"^\s*[-+(]?\s*(\p{Sc}\s*[-+]?\d[\d.,' ]*|\d[\d.,' ]*\s*[%\p{Sc}]|\d[\d.,']*\s+\pL{1,4}(/\pL{1,3})?"
    r"|\d{1,3}([.,']\d{3})*[.,]\d{1,2})\s*\)?\s*$"
)
"""Text that is an amount, and so no key however unique it is: with a currency or %, with a unit, or with a fraction."""
LONGEST_KEY = 64
"""Characters of a text that identifies something; a comment has more, or has words in most rows."""
MOSTLY = 0.95
"""The share of neighbours in order from which a column counts as ordered."""


@dataclass(frozen=True)
class Evidence:
    """One column of a sample: rows, nulls, distinct values, the range of numbers and dates, and all values if few."""

    name: str
    rows: int
    nulls: int
    distinct: int
    minimum: Any = None
    maximum: Any = None
    values: tuple[str, ...] = ()
    ordered: bool = False
    """Whether its values rise, or fall, from row to row: later rows are outside of what was seen."""
    finite: bool = True
    """Whether it has neither NaN nor an infinity."""

    @property
    def unique(self) -> bool:
        """Whether no value came twice and none was missing."""
        return 0 < self.rows == self.distinct and self.nulls == 0


def evidence(name: str, values: pa.ChunkedArray) -> Evidence:
    """Return what a column of a sample shows; empty text counts as null."""
    if pa.types.is_string(values.type):
        values = pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)
    counted = pc.value_counts(values.drop_null())
    known, number = counted.field("values"), len(counted)
    low = high = None
    if number and (_is_number(values.type) or pa.types.is_temporal(values.type)):
        low, high = (pc.min_max(known)[end].as_py() for end in ("min", "max"))
    rises = low is not None and number > FEW_VALUES and _ordered(values)
    finite = not pa.types.is_floating(values.type) or not number or pc.all(pc.is_finite(known)).as_py()
    return Evidence(
        name, len(values), values.null_count, number, low, high, _enumeration(values, known), rises, bool(finite)
    )


def _ordered(values: pa.ChunkedArray) -> bool:
    known = values.drop_null().combine_chunks()
    before, after = known.slice(0, len(known) - 1), known.slice(1)
    return any(
        (pc.sum(compare(before, after)).as_py() or 0) >= MOSTLY * len(before)
        for compare in (pc.less_equal, pc.greater_equal)
    )


def _enumeration(values: pa.ChunkedArray, known: pa.Array) -> tuple[str, ...]:
    rows = len(values) - values.null_count
    few = 1 < len(known) <= FEW_VALUES and rows >= max(LEAST_ROWS, ROWS_PER_VALUE * len(known))
    if not few or not pa.types.is_string(values.type):
        return ()
    texts = sorted(known.to_pylist())
    return tuple(texts) if all(len(text) <= LONGEST_VALUE and text.isprintable() for text in texts) else ()


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def candidate_keys(table: pa.Table, found: list[Evidence], entity: str = "") -> Iterator[tuple[str, ...]]:
    """Yield the keys that a sample allows, the likeliest first: single columns, else the fewest together, up to four.

    What is named after a row itself comes first (id, payment_id, payment for the `entity` payment), then what ends in
    `_id` and the like, then texts, dates and what is first in a row; measures (numbers with a fraction,
    times of day), what people write (comments) and personal data are no keys, however unique they are in a sample.
    """
    able = [one for one in found if one.nulls == 0 and one.distinct > 1 and _may_be_key(one.name, table[one.name])]
    first = table.column_names[0] if table.num_columns else ""
    own = re.compile(rf"(id|uuid|guid)|{re.escape(entity)}_?(id|uuid|guid|key|code|number|no|nr)")

    def rank(one: Evidence) -> tuple[bool, ...]:
        count = pa.types.is_integer(table.schema.field(one.name).type) and one.name != first
        return own.fullmatch(one.name) is None, one.name != entity, not looks_like_key(one.name), count

    able.sort(key=rank)  # stable: else they stay in the order of the columns
    single = [one.name for one in able if one.unique]
    if single:
        yield from ((name,) for name in single)
        return
    few = table.slice(0, TRIED_ROWS)
    for size in range(2, MOST_COLUMNS + 1):
        together = 0
        for some in combinations(able[:PAIRED], size):
            names = [one.name for one in some]
            if prod(one.distinct for one in some) >= table.num_rows and _unique(few, names) and _unique(table, names):
                together += 1
                yield tuple(names)
        if together:
            return


def repeats(table: pa.Table, names: Sequence[str]) -> int:
    """Return how many rows share the values of these columns with an earlier row."""
    return int(table.num_rows - table.group_by(list(names)).aggregate([]).num_rows)


def _unique(table: pa.Table, names: Sequence[str]) -> bool:
    return repeats(table, names) == 0


def _may_be_key(name: str, values: pa.ChunkedArray) -> bool:
    kind = values.type
    if pa.types.is_string(kind):
        long = (pc.max(pc.utf8_length(values)).as_py() or 0) > LONGEST_KEY
        return not long and not is_free_text(name) and not _has_words(values) and not _has_amounts(values)
    whole = pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)
    return bool(whole or pa.types.is_temporal(kind))


def _has_amounts(values: pa.ChunkedArray) -> bool:
    """Return whether most values are numbers with a fraction, a currency or a unit: "$4.50", "1.234,50", "12 kg"."""
    return 2 * int(pc.sum(pc.match_substring_regex(values, AMOUNT)).as_py() or 0) > len(values)


def _has_words(values: pa.ChunkedArray) -> bool:
    """Return whether most values are three words or more: sentences, addresses."""
    texts = pc.match_substring_regex(values, r"\S\s+\S+\s+\S")
    return 2 * int(pc.sum(texts).as_py() or 0) > len(values)
