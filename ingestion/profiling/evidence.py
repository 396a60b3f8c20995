"""What a sample shows of each column and which columns may be a key: the evidence that contracts and tests rest on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ingestion.profiling.names import looks_like_key

if TYPE_CHECKING:
    from collections.abc import Iterator

FEW_VALUES = 12
LEAST_ROWS = 20
"""Fewer rows than this prove no enumeration."""
ROWS_PER_VALUE = 4
"""A column counts as an enumeration only if its values come this often on average."""
LONGEST_VALUE = 40
PAIRED = 8
"""Columns that pairs are tried of: at most 28 pairs."""


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
    return Evidence(name, len(values), values.null_count, number, low, high, _enumeration(values, known))


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
    """Yield the keys that a sample allows, the likeliest first: single columns, and pairs if there is none.

    What is named after a row itself comes first (id, payment_id, payment for the `entity` payment), then what ends in
    `_id` and the like; measures (numbers with a fraction, times of day) and
    personal data are no keys, however unique they are in a sample.
    """
    able = [one for one in found if one.nulls == 0 and one.distinct > 1 and _may_be_key(table.schema.field(one.name))]
    own = re.compile(rf"(id|uuid|guid)|{re.escape(entity)}_?(id|uuid|guid|key|code|number|no|nr)")

    def rank(one: Evidence) -> tuple[bool, ...]:
        return own.fullmatch(one.name) is None, one.name != entity, not looks_like_key(one.name)

    able.sort(key=rank)  # stable: else they stay in the order of the columns
    single = [one.name for one in able if one.unique]
    if single:
        yield from ((name,) for name in single)
        return
    for first, second in combinations(able[:PAIRED], 2):
        if first.distinct * second.distinct >= table.num_rows:
            pair = (first.name, second.name)
            if table.group_by(list(pair)).aggregate([]).num_rows == table.num_rows:
                yield pair


def _may_be_key(field: pa.Field) -> bool:
    kind = field.type
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_temporal(kind))
