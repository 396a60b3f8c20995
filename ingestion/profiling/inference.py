"""Types of text: the narrowest type that every value of a sample has, and text where there is any doubt."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from ingestion.types import cast

WHOLE = r"^-?(0|[1-9]\d{0,17})$"
"""At most 18 digits, which any bigint holds. A leading zero means a code (a postcode, an article number): text."""
FRACTION = r"^-?(0|[1-9]\d{0,14})(\.\d+)?$"
EXPONENT = r"^-?\d{1,15}(\.\d+)?([eE][-+]?\d{1,2})?$"
TRUTH = r"^(true|false)$"
DAY = r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$"
MOMENT = (
    r"^\d{4}-\d\d-\d\d[T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?"
    r"(Z|[+-]\d\d:?\d\d)?$"
)
ZONE = r"(Z|[+-]\d\d:?\d\d)$"
PRECISION = 18
LARGEST_SCALE = 9


def infer(values: pa.ChunkedArray, *, only_times: bool = False) -> pa.DataType:
    """Return the type of a column of text: int64, decimal128, float64, bool, date32, timestamp or string.

    Empty text and null say nothing, and blanks around a value do not count, as in a load. A type is taken only if the
    loader's own parser reads every value as it. A column without any value is text. A decimal has 18 digits and the
    scale that was found, at least 2, since 4.5 in a sample is often a price. Times are in microseconds, with a zone
    (UTC) only if every value has one. With `only_times` everything but dates and times stays text, as in JSON, where
    text that looks like a number was meant to be text.
    """
    distinct = pc.unique(pc.utf8_trim_whitespace(values.cast(pa.string())))
    distinct = distinct.filter(pc.and_(pc.is_valid(distinct), pc.not_equal(distinct, "")))
    if len(distinct) == 0:
        return pa.string()
    for tried in (_day, _moment) if only_times else (_whole, _fraction, _truth, _day, _moment):
        found = tried(distinct)
        if found is not None:
            return found if cast(distinct, found, text=True)[1] is None else pa.string()
    return pa.string()


def _all(values: pa.Array, pattern: str) -> bool:
    return bool(pc.all(pc.match_substring_regex(values, pattern)).as_py())


def _whole(values: pa.Array) -> pa.DataType | None:
    return pa.int64() if _all(values, WHOLE) else None


def _fraction(values: pa.Array) -> pa.DataType | None:
    if _all(values, FRACTION):
        fractions = pc.fill_null(pc.struct_field(pc.extract_regex(values, r"\.(?P<digits>\d+)$"), "digits"), "")
        scale = max(2, int(pc.max(pc.utf8_length(fractions)).as_py()))
        whole = int(pc.max(pc.utf8_length(pc.replace_substring_regex(values, r"^-|\.\d+$", ""))).as_py())
        if scale <= LARGEST_SCALE and whole + scale <= PRECISION:
            return pa.decimal128(PRECISION, scale)
        return pa.float64()
    leading_zero = pc.any(pc.match_substring_regex(values, r"^-?0\d")).as_py()
    return pa.float64() if not leading_zero and _all(values, EXPONENT) else None


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
