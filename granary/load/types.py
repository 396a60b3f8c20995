"""How a delivered value becomes one of the agreed type: what fits, what may fit, and which values do not."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from granary.load.values import as_text, bare, beyond, unpacked

Fit = Literal["fits", "may", "no"]
"""fits: every value can be cast. may: the delivered type is wider, single values decide. no: another kind."""

DIGITS = {8: 3, 16: 5, 32: 10, 64: 19}
"""Decimal digits that an integer of so many bits may need."""

NARROW, WIDE = 38, 76
"""Digits of Arrow's decimals of 128 and of 256 bits."""

CAST_ERRORS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError)


def fit(found: pa.DataType, wanted: pa.DataType) -> Fit:  # noqa: PLR0911 - one rule, one line
    """Return how values of one type fit into another (a column of nulls fits everything)."""
    t = pa.types
    found = bare(found)
    if found == wanted or t.is_null(found):
        return "fits"
    if t.is_string(wanted):
        return "fits" if t.is_string(plain(found)) else "no"
    if t.is_binary(wanted):
        return "fits" if t.is_binary(plain(found)) else "no"
    if t.is_integer(wanted) and t.is_integer(found):
        return "fits" if _bits(found) <= _bits(wanted) else "may"
    if t.is_floating(wanted):
        if t.is_integer(found) or (t.is_floating(found) and found.bit_width <= wanted.bit_width):
            return "fits"
        return "may" if t.is_floating(found) or t.is_decimal(found) else "no"
    if t.is_integer(wanted):
        return "may" if t.is_floating(found) or t.is_decimal(found) else "no"
    if t.is_decimal(wanted):
        return _fit_decimal(found, wanted)
    if t.is_timestamp(wanted):
        if t.is_date(found):
            return "fits" if wanted.tz is None else "no"  # a day in no time zone is not an instant
        return "fits" if t.is_timestamp(found) and (found.tz is None) == (wanted.tz is None) else "no"
    if t.is_date(wanted):
        return "fits" if t.is_date(found) else "may" if t.is_timestamp(found) and found.tz is None else "no"
    return "no"


def _bits(integer: pa.DataType) -> int:
    """Return the bits of the signed type that holds every value of an integer type."""
    return int(integer.bit_width) * (2 if pa.types.is_unsigned_integer(integer) else 1)


def _fit_decimal(found: pa.DataType, wanted: pa.DataType) -> Fit:
    t = pa.types
    whole = wanted.precision - wanted.scale
    if t.is_integer(found):
        return "fits" if DIGITS[found.bit_width] <= whole else "may"
    if t.is_decimal(found):
        return "fits" if found.scale <= wanted.scale and found.precision - found.scale <= whole else "may"
    return "may" if t.is_floating(found) else "no"


def widest(found: pa.DataType, wanted: pa.DataType) -> pa.DataType:
    """Return the raw type that holds the values of both, for a column that may widen; `wanted` if there is none."""
    t = pa.types
    found = bare(found)
    if t.is_integer(found) and t.is_integer(wanted):
        return pa.int64() if _bits(found) <= DIGITS_LIMIT else pa.decimal128(20, 0)
    if t.is_decimal(found) and (t.is_integer(wanted) or t.is_decimal(wanted)):
        scale = max(found.scale, wanted.scale if t.is_decimal(wanted) else 0)
        digits = wanted.precision - wanted.scale if t.is_decimal(wanted) else DIGITS[wanted.bit_width]
        return decimal(max(found.precision - found.scale, digits) + scale, scale)
    if t.is_floating(found) and t.is_floating(wanted):
        return pa.float64()
    if t.is_timestamp(found) and found.tz is None and t.is_date(wanted):
        return pa.timestamp("us")
    return wanted


def widens(narrow: pa.DataType, wide: pa.DataType) -> bool:
    """Return whether a raw column can have been widened from one type to the other, or be so."""
    return narrow != wide and fit(narrow, wide) == "fits" and not pa.types.is_string(wide)


DIGITS_LIMIT = 64
"""Bits that bigint has."""


def plain(found: pa.DataType) -> pa.DataType:  # noqa: PLR0911 - one rule, one line
    """Return the raw type of a column that no contract names; what has no plain type lands as text."""
    t = pa.types
    found = bare(found)
    if t.is_integer(found):
        return pa.int64() if _bits(found) <= DIGITS_LIMIT else pa.decimal128(20, 0)
    if t.is_floating(found):
        return pa.float64()
    if t.is_decimal(found):
        return decimal(found.precision - min(found.scale, 0), max(found.scale, 0))
    if t.is_timestamp(found):
        return pa.timestamp("us", tz="UTC" if found.tz else None)
    if t.is_date(found):
        return pa.date32()
    if t.is_binary(found) or t.is_large_binary(found) or t.is_fixed_size_binary(found) or t.is_binary_view(found):
        return pa.binary()
    return found if t.is_boolean(found) else pa.string()


def decimal(precision: int, scale: int) -> pa.DataType:
    """Return the decimal type of so many digits, as far as Arrow has one (76)."""
    return pa.decimal128(precision, scale) if precision <= NARROW else pa.decimal256(min(precision, WIDE), scale)


def cast(values: pa.Array, wanted: pa.DataType, *, text: bool = False) -> tuple[pa.Array, pa.Array | None]:
    """Cast a column to the agreed type, as far as its values fit.

    Args:
        values: a column as delivered.
        wanted: the agreed type.
        text: strings hold values as received, and are parsed.

    Returns:
        The cast column, in which values that do not fit are null, and the mask of those, or None if all fit.
    """
    values = unpacked(values)
    if values.type == wanted and not pa.types.is_temporal(wanted):
        return values, None
    how = _parse if text and pa.types.is_string(values.type) else _convert
    try:
        return how(values, wanted), None
    except CAST_ERRORS:
        bad = _misfits(values, wanted, how, 0)
    mask = pa.array([False] * len(values)) if not bad else _mask(len(values), bad)
    return how(pc.if_else(mask, pa.scalar(None, values.type), values), wanted), mask


def _mask(length: int, places: list[int]) -> pa.Array:
    chosen = set(places)
    return pa.array([index in chosen for index in range(length)])


def _misfits(
    values: pa.Array, wanted: pa.DataType, how: object, first: int
) -> list[int]:  # how: Callable[[pa.Array, pa.DataType], pa.Array]
    """Return the places of the values that cannot be cast, by halving."""
    try:
        how(values, wanted)  # type: ignore[operator]
    except CAST_ERRORS:
        if len(values) == 1:
            return [first]
        half = len(values) // 2
        return [
            *_misfits(values.slice(0, half), wanted, how, first),
            *_misfits(values.slice(half), wanted, how, first + half),
        ]
    return []


def _convert(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Cast between types; what would be cut off, rounded or overflow is an error, but for parts of a microsecond."""
    t, found = pa.types, values.type
    if t.is_string(wanted):
        return as_text(values)
    if t.is_float16(found):
        values = values.cast(pa.float32())
    if t.is_timestamp(wanted) and t.is_timestamp(found) and found.unit == "ns":
        # Sources may keep nanoseconds; Postgres keeps microseconds.
        cut = pc.floor_temporal(values.view(pa.timestamp("ns")), unit="microsecond").cast(pa.timestamp("us"))
        return _in_calendar(cut.view(pa.timestamp("us", found.tz)).cast(wanted))
    if t.is_floating(found) and t.is_decimal(wanted):
        return values.cast(pa.string()).cast(wanted)  # by its shortest digits: the binary ones are never exact
    done = values.cast(wanted)
    if t.is_date(wanted) and t.is_timestamp(found):
        _same(done.cast(found), values, "a time of day would be cut off")
    elif t.is_floating(wanted) and t.is_decimal(found):
        _same(done.cast(pa.string()).cast(found), values, "digits would be lost")
    elif t.is_float32(wanted) and t.is_float64(found):
        _same(done.cast(pa.string()), values.cast(pa.string()), "digits would be lost")
    return _in_calendar(done)


def _same(back: pa.Array, values: pa.Array, otherwise: str) -> None:
    if pc.all(pc.equal(back, values)).as_py() is False:
        raise pa.ArrowInvalid(otherwise)


def _in_calendar(values: pa.Array) -> pa.Array:
    """Return a column whose dates and times are of the years 1 to 9999.

    Raises:
        pa.ArrowInvalid: one is not.
    """
    if beyond(values) is not None:
        raise pa.ArrowInvalid("it is outside of the years 1 to 9999")
    return values


def _parse(texts: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Parse text as received; around anything but text, blanks do not count and nothing between them is null."""
    t = pa.types
    if t.is_string(wanted):
        return texts
    texts = pc.utf8_trim_whitespace(texts)
    texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    if t.is_timestamp(wanted) and wanted.tz:
        return _in_calendar(instants(texts).cast(wanted))
    if t.is_boolean(wanted):
        return _booleans(texts)
    if t.is_date(wanted):
        _all_like(texts, r"^\d{4}-\d\d-\d\d$", "a date is not written YYYY-MM-DD")
    if t.is_integer(wanted):
        _all_like(texts, r"^[+-]?\d+$", "a whole number is not written in digits")
    if t.is_floating(wanted):
        return _floats(texts, wanted)
    return _in_calendar(texts.cast(wanted))


def _all_like(texts: pa.Array, pattern: str, otherwise: str) -> None:
    if pc.all(pc.match_substring_regex(texts, pattern)).as_py() is False:
        raise pa.ArrowInvalid(otherwise)


def _floats(texts: pa.Array, wanted: pa.DataType) -> pa.Array:
    """Parse numbers; one so large or so small that the type takes it for infinite or zero does not fit."""
    _all_like(texts, r"^(?i)[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf|infinity)$", "it is not a number")
    done = texts.cast(wanted)
    swallowed = pc.or_(
        pc.and_(pc.is_inf(done), pc.match_substring_regex(texts, r"\d")),
        pc.and_(pc.equal(done, 0), pc.match_substring_regex(texts, r"^[^eE]*[1-9]")),
    )
    if pc.any(swallowed).as_py():
        raise pa.ArrowInvalid("a number is too large or too small")
    return done


def _booleans(texts: pa.Array) -> pa.Array:
    lower = pc.utf8_lower(texts)
    yes = pc.is_in(lower, pa.array(["true", "t", "yes", "y", "1"]))
    no = pc.is_in(lower, pa.array(["false", "f", "no", "n", "0"]))
    if not pc.all(pc.or_(pc.or_(yes, no), pc.is_null(texts))).as_py():
        raise pa.ArrowInvalid("a boolean is none of true, false, t, f, yes, no, y, n, 1, 0")
    return pc.if_else(pc.is_null(texts), pa.scalar(None, pa.bool_()), yes)


def instants(texts: pa.Array) -> pa.Array:
    """Parse ISO 8601 instants, each with an offset or Z; one without is refused, for it names no instant."""
    zoned = pc.match_substring_regex(texts, r"(Z|[+-]\d\d(:?\d\d)?)$")
    if pc.all(zoned).as_py() is False:
        raise pa.ArrowInvalid("an instant has no zone")
    return texts.cast(pa.timestamp("us", tz="UTC"))
