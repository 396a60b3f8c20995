"""Columns of JSON values, in the types that a contract will have: no number loses a digit."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.profiling.inference import LARGEST_SCALE, PRECISION, WIDEST
from granary.warehouse.json_text import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGEST = 2**63


def column(values: Sequence[Any]) -> pa.Array:
    """Return JSON values as a column: whole numbers, decimals (floating point only if that is exact), truth or text.

    Texts stay texts. Objects, lists and what is mixed are JSON text; a text among numbers is itself.
    """
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds and kinds <= {int, float, Decimal} and (numbers := _numbers(values)) is not None:
        return numbers
    return pa.array(
        [value if value is None or isinstance(value, str) else text(value) for value in values], pa.string()
    )


def text(value: Any) -> str:
    """Return a JSON value as text, numbers with the digits that they came with."""
    try:
        return str(value) if isinstance(value, Decimal) else encode(value)
    except TypeError:  # a part without a meaning, whose row a load will refuse
        return str(value)


def _numbers(values: Sequence[Any]) -> pa.Array | None:
    """Return numbers in the narrowest type that has all their digits, None if there is none."""
    exact = [None if value is None else Decimal(str(value)) for value in values]
    known = [value for value in exact if value is not None]
    if not all(value.is_finite() for value in known):
        return None
    scale = max(max(0, -int(value.as_tuple().exponent)) for value in known)
    whole = max(max(1, value.adjusted() + 1) for value in known)
    if not scale and all(-LARGEST <= value < LARGEST for value in known):
        return pa.array([None if value is None else int(value) for value in exact], pa.int64())
    if scale and max(2, scale) <= LARGEST_SCALE and whole + max(2, scale) <= PRECISION:
        return pa.array(exact, pa.decimal128(PRECISION, max(2, scale)))
    double = all(Decimal(repr(float(value))) == value for value in known)
    if whole + scale <= WIDEST and not (scale and double):
        return pa.array(exact, pa.decimal128(WIDEST, scale))
    return pa.array([None if value is None else float(value) for value in exact], pa.float64()) if double else None
