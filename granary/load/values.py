"""Arrow values as they are: without their wrapping, within the calendar, and as text for people and for raw tables."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

FIRST, LAST = datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999)  # noqa: DTZ001 - of any zone
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001
DAY, INT_BITS = 86_400, 32
DAYS = tuple((each - EPOCH).days for each in (FIRST, LAST))
MICROSECONDS = tuple((each - EPOCH) // timedelta(microseconds=1) for each in (FIRST, LAST))
PARTS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
TURN = 946_684_800_000_000
"""Microseconds from 1970 to 2000, where Postgres counts from; its driver adds them to its infinities, and wraps."""
INFINITIES = {-(2**63) + TURN - 1: "infinity", -(2**63) + TURN: "-infinity"}
DAY_INFINITIES = {-(2**31) + 10_957 - 1: "infinity", -(2**31) + 10_957: "-infinity"}


def bare(kind: pa.DataType) -> pa.DataType:
    """Return the type of a dictionary's values, and what an extension type is kept as; UUIDs are text."""
    if pa.types.is_dictionary(kind):
        return bare(kind.value_type)
    if isinstance(kind, pa.UuidType):
        return pa.string()
    return bare(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def unpacked(values: pa.Array) -> pa.Array:
    """Return a column without dictionary and extension type."""
    if pa.types.is_dictionary(values.type):
        return unpacked(values.dictionary_decode())
    if isinstance(values.type, pa.UuidType):
        return pa.array([each and str(UUID(bytes=each)) for each in values.storage.to_pylist()], pa.string())
    return unpacked(values.storage) if isinstance(values.type, pa.BaseExtensionType) else values


def beyond(values: pa.Array) -> pa.Array | None:
    """Return the mask of infinities and of years that no calendar here has, or None if there are none."""
    if pa.types.is_date32(values.type):
        numbers, (first, last) = values.view(pa.int32()), DAYS
    elif pa.types.is_timestamp(values.type):
        numbers, (first, last) = values.cast(pa.timestamp("us", tz=values.type.tz)).view(pa.int64()), MICROSECONDS
    else:
        return None
    extremes = pc.min_max(numbers).as_py()
    if extremes["min"] is None or (extremes["min"] >= first and extremes["max"] <= last):
        return None
    return pc.fill_null(pc.or_(pc.less(numbers, first), pc.greater(numbers, last)), False)


def as_text(values: pa.Array) -> pa.Array:
    """Write a column that has no plain type as text: durations and intervals in ISO 8601, the rest as Arrow does.

    Raises:
        pa.ArrowInvalid: a time of day is none.
    """
    t, kind = pa.types, values.type
    if t.is_duration(kind):
        parts = PARTS[kind.unit]
        return pa.array([_duration(each, parts) for each in values.view(pa.int64()).to_pylist()], pa.string())
    if t.is_interval(kind):
        return pa.array([_interval(each) for each in values.to_pylist()], pa.string())
    if t.is_time(kind):
        numbers = values.view(pa.int64() if t.is_time64(kind) else pa.int32())
        extremes = pc.min_max(numbers).as_py()
        if extremes["min"] is not None and not 0 <= extremes["min"] <= extremes["max"] < DAY * PARTS[kind.unit]:
            raise pa.ArrowInvalid("it is not a time of day")
    return values.cast(pa.string())


def _duration(value: int | None, parts: int) -> str | None:
    """Write a number of parts of a second in ISO 8601, as Postgres reads it: each component has its sign."""
    if value is None:
        return None
    sign, (whole, rest) = "-" if value < 0 else "", divmod(abs(value), parts)
    hours, minutes, seconds = whole // 3600, whole // 60 % 60, whole % 60
    fraction = f".{rest:0{len(str(parts)) - 1}}".rstrip("0") if rest else ""
    found = [(hours, "", "H"), (minutes, "", "M"), (seconds, fraction, "S")]
    return "PT" + ("".join(f"{sign}{n}{more}{unit}" for n, more, unit in found if n or more) or "0S")


def _interval(value: Any) -> str | None:
    if value is None:
        return None
    days = "".join(f"{number}{unit}" for number, unit in ((value.months, "M"), (value.days, "D")) if number)
    return "P" + days + str(_duration(value.nanoseconds, PARTS["ns"]))[1:]


def readable(values: pa.Array, index: int) -> Any:
    """Return a value for a person to read, whatever it is."""
    t, one = pa.types, unpacked(values.slice(index, 1))
    kind = one.type
    try:
        written = t.is_duration(kind) or t.is_interval(kind) or t.is_time(kind) or getattr(kind, "unit", "") == "ns"
        return (as_text(one) if written else one)[0].as_py()
    except UnicodeDecodeError:
        return bytes(one.cast(pa.binary())[0].as_py()).decode("utf-8", "backslashreplace")
    except (OverflowError, ValueError):
        number = one.view(pa.int32() if kind.bit_width == INT_BITS else pa.int64())[0].as_py()
        if t.is_date32(kind):
            return DAY_INFINITIES.get(number, f"{number} days from 1970")
        words = f"{number} {UNITS[getattr(kind, 'unit', 'ms')]} from 1970"
        return INFINITIES.get(number, words) if words.endswith("microseconds from 1970") else words
