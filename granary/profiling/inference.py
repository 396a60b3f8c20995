"""Types of text: the narrowest type that every value of a sample has, and text where there is any doubt.

A number is taken only where it keeps what was written: 007, +49, 1_000, 0x10 and 12E5 are codes, and where 1.1 and 1.10
are both there they are two of them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from granary.load.types import cast

if TYPE_CHECKING:
    from collections.abc import Collection

WHOLE = r"^-?(0|[1-9]\d{0,17})$"
"""At most 18 digits, which any bigint holds. A leading zero means a code (a postcode, an article number): text."""
FRACTION = r"^-?(0|[1-9]\d*)(\.\d+)?$"
EXPONENT = r"^-?[1-9](\.\d+)?[eE][-+]?\d{1,3}$"
TOLD = r"\.\d+[eE]|[eE][-+]"
"""What programs write and codes do not have: 1.5e25 or 1e+25, and not 12E5."""
TRUTH = r"^(true|false)$"
DAY = r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$"
MOMENT = (
    r"^\d{4}-\d\d-\d\d[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?"
    r"(Z|[+-]\d\d:?\d\d)?$"
)
ZONE = r"(Z|[+-]\d\d:?\d\d)$"
PRECISION, WIDEST = 18, 38
LARGEST_SCALE = 9

CLEAR = frozenset(
    ("\\N", "NULL", "null", "N/A", "n/a", "#N/A", "<NA>", "(null)", "<null>", "[null]", "(empty)", "(blank)")
)
"""Words that stand for no value wherever they are."""
WORDS = {word.lower() for word in CLEAR} | {
    "na", "n.a.", "k.a.", "#na", "none", "(none)", "nil", "nan", "nd", "n.d.", "-", "--", "---", "\u2013", "\u2014",
    "?", ".", "..", "*", "missing", "unknown", "undefined", "empty", "blank", "not available", "not applicable",
    "0000-00-00", "0000-00-00 00:00:00",
}  # fmt: skip
"""Words, in lower case, that stand for no value among numbers, dates and times."""
PLAIN = frozenset(("none", "nil", "missing", "unknown", "undefined", "empty", "blank", "?", ".", "..", "*"))
"""Those of them that may be a value among others where a column is text."""
PAIRS = r"^[A-Z]{2}$"


def infer(values: pa.ChunkedArray, *, only_times: bool = False) -> pa.DataType:
    """Return the type of a column of text: int64, decimal128, float64, bool, date32, timestamp or string.

    Empty text and null say nothing, and blanks around a value do not count, as in a load. A type is taken only if the
    loader's own parser reads every value as it. A column without any value is text. A decimal has 18 digits and the
    scale that was found, at least 2, since 4.5 in a sample is often a price. Times are in microseconds, with a zone
    (UTC) only if every value has one. With `only_times` everything but dates and times stays text, as in JSON, where
    text that looks like a number was meant to be text.
    """
    return _type(_distinct(values), only_times)


def null_words(values: pa.ChunkedArray, known: Collection[str] = (), *, only_times: bool = False) -> tuple[str, ...]:
    """Return the words that stand for no value in a column of text, in order; none if it has none.

    Among numbers, dates and times such words are plain: without them every value has one type. In a column that stays
    text only those count that can mean nothing else, and those that are `known` from the table's other columns; never
    NA among codes of two letters, which is Namibia or sodium.
    """
    distinct = _distinct(values)
    low = pc.utf8_lower(distinct)
    maybe = pc.is_in(low, pa.array(sorted(WORDS)))
    if not pc.any(maybe).as_py():
        return ()
    rest = distinct.filter(pc.invert(maybe))
    if _type(rest, only_times) != pa.string():
        return tuple(sorted(distinct.filter(maybe).to_pylist()))
    words = {word for word in distinct.filter(maybe).to_pylist() if word in CLEAR or word in known}
    words = {word for word in words if word in CLEAR or word.lower() not in PLAIN}
    if len(rest) and _all(rest, PAIRS):
        words -= {"NA"}
    return tuple(sorted(words))


def _distinct(values: pa.ChunkedArray) -> pa.Array:
    """Return the different values, blanks around them cut off, but for what is empty."""
    distinct = pc.unique(pc.utf8_trim_whitespace(values.cast(pa.string())))
    return distinct.filter(pc.and_(pc.is_valid(distinct), pc.not_equal(distinct, "")))


def _type(distinct: pa.Array, only_times: bool) -> pa.DataType:
    if len(distinct) == 0:
        return pa.string()
    for tried in (_day, _moment) if only_times else (_whole, _fraction, _exponent, _truth, _day, _moment):
        found = tried(distinct)
        if found is not None:
            return found if cast(distinct, found, text=True)[1] is None else pa.string()
    return pa.string()


def _all(values: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(values, pattern)).as_py())


def _whole(values: pa.Array) -> pa.DataType | None:
    return pa.int64() if _all(values, WHOLE) else None


def _fraction(values: pa.Array) -> pa.DataType | None:
    if not _all(values, FRACTION) or not pc.any(pc.match_substring(values, ".")).as_py():
        return None  # a whole number of over 18 digits is a code
    fractions = pc.fill_null(pc.struct_field(pc.extract_regex(values, r"\.(?P<digits>\d+)$"), "digits"), "")
    scale = max(2, int(pc.max(pc.utf8_length(fractions)).as_py()))
    whole = int(pc.max(pc.utf8_length(pc.replace_substring_regex(values, r"^-|\.\d+$", ""))).as_py())
    if whole + scale > WIDEST:
        return _float(values)
    if scale <= LARGEST_SCALE and whole + scale <= PRECISION:
        kind = pa.decimal128(PRECISION, scale)
    elif _float(values):
        return pa.float64()
    else:
        kind = pa.decimal128(WIDEST, scale)
    return kind if _all_differ(values, kind) else None


def _exponent(values: pa.Array) -> pa.DataType | None:
    """Return float64 for numbers some of which a program wrote with an exponent; R writes 1000 as 1e3 among 1012.3."""
    fractions = pc.sum(pc.match_substring(values, ".")).as_py() or 0
    has_point = 2 * fractions > len(values) or pc.any(pc.match_substring_regex(values, TOLD)).as_py()
    return _float(values) if has_point and _all(values, f"{FRACTION}|{EXPONENT}") else None


def _float(values: pa.Array) -> pa.DataType | None:
    """Return float64 if it keeps every digit: its shortest form is the number that was written."""
    exact = all(Decimal(repr(float(text))) == Decimal(text) for text in values.to_pylist())
    return pa.float64() if exact and _all_differ(values, pa.float64()) else None


def _all_differ(values: pa.Array, kind: pa.DataType) -> bool:
    """Return whether different texts are different numbers: 1.1 and 1.10 are versions; 12 and 12.0 are one number."""
    values = pc.unique(pc.replace_substring_regex(pc.replace_substring_regex(values, r"\.0+$", ""), "^-0$", "0"))
    return len(pc.unique(values.cast(kind))) == len(values)


def _truth(values: pa.Array) -> pa.DataType | None:
    return pa.bool_() if _all(pc.utf8_lower(values), TRUTH) else None


def _day(values: pa.Array) -> pa.DataType | None:
    return pa.date32() if _all(values, DAY) else None


def _moment(values: pa.Array) -> pa.DataType | None:
    """Return a time's type; some with a zone and some without are text, for nobody knows what the others mean."""
    if not _all(values, MOMENT):
        return None
    zoned = pc.match_substring_regex(values, ZONE)
    if pc.all(zoned).as_py():
        return pa.timestamp("us", tz="UTC")
    return None if pc.any(zoned).as_py() else pa.timestamp("us")
