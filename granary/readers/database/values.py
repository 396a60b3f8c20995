"""Values as drivers and drivers' Arrow deliver them, into columns; a value that does not fit refuses its row alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Context, Decimal, Inexact, InvalidOperation
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import pyarrow as pa

from granary.load.types import CAST_ERRORS
from granary.sources.units import Rejected, SourceBatch
from granary.warehouse.json_text import written

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ZeroDates = Literal["refuse", "null"]
BIT_BYTES = 8
EXACT = Context(prec=76, traps=[Inexact, InvalidOperation])


@dataclass(frozen=True)
class Field:
    """A column on its way: its name and text type in the source, the type in which it is handed over, and how.

    `zone` is the time zone of its zone-less times, if it is to be handed over as instants.
    """

    name: str
    type: pa.DataType
    declared: str = ""
    nullable: bool = True
    zone: str | None = None


def source_batch_of(fields: Sequence[Field], rows: Sequence[Sequence[Any]], zero_dates: ZeroDates) -> SourceBatch:
    """Build a batch from rows of Python values, column by column."""
    rejected: dict[int, Rejected] = {}
    names = [field.name for field in fields]
    arrays = []
    for field, values in zip(fields, zip(*rows, strict=True) if rows else [()] * len(fields), strict=True):
        array, problems = column(values, field, zero_dates)
        arrays.append(array)
        for index, problem in problems.items():
            if index not in rejected:
                rejected[index] = Rejected(field.name, problem, dict(zip(names, rows[index], strict=True)))
    return settled(names, arrays, rejected)


def settled(names: Sequence[str], arrays: Sequence[pa.Array], rejected: dict[int, Rejected]) -> SourceBatch:
    """Return the batch without its rejected rows."""
    if rejected and arrays:
        keep = pa.array([index not in rejected for index in range(len(arrays[0]))])
        arrays = [array.filter(keep) for array in arrays]
    return SourceBatch(pa.RecordBatch.from_arrays(list(arrays), names=list(names)), tuple(sorted(rejected.items())))


def column(values: Sequence[Any], field: Field, zero_dates: ZeroDates = "refuse") -> tuple[pa.Array, dict[int, str]]:
    """Build a column; what does not fit is null in it, and named with its reason."""
    expected, convert = next(((kind, how) for fits, kind, how in HOW if fits(field.type)), (str, _text))
    if field.zone is None and set(map(type, values)) <= {expected, type(None)}:
        try:
            return pa.array(values, field.type), {}
        except CAST_ERRORS:
            pass  # one of them does not fit: find it
    problems: dict[int, str] = {}
    fitting: list[Any] = []
    for index, value in enumerate(values):
        try:
            absent = value is None or (zero_dates == "null" and is_zero_date(value, field))
            fitting.append(None if absent else convert(value, field))
        except (ValueError, InvalidOperation, OverflowError, Inexact) as error:
            fitting.append(None)
            problems[index] = str(error) if type(error) is ValueError else f"is not a valid {field.type}"
    return pa.array(fitting, field.type), problems


def is_zero_date(value: Any, field: Field) -> bool:
    """Return whether it is the 0000-00-00 that MySQL keeps where a date is missing."""
    temporal = pa.types.is_timestamp(field.type) or pa.types.is_date(field.type)
    return temporal and isinstance(value, str) and value.startswith("0000-00-00")


def _unpacked(value: Any) -> Any:
    """Return the number that MySQL's bit(n), up to 64 of them, is; anything else as it is."""
    return int.from_bytes(value, "big") if isinstance(value, bytes) and len(value) <= BIT_BYTES else value


def _boolean(value: Any, _: Field) -> bool:
    number = _unpacked(value)
    if number in (0, 1) and not isinstance(number, str):
        return bool(number)
    raise ValueError("is neither 0 nor 1")


def _integer(value: Any, field: Field) -> int:
    bits, value = field.type.bit_width, _unpacked(value)
    if not isinstance(value, (int, float, Decimal)) or int(value) != value:
        raise ValueError("is not a whole number")
    if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        raise ValueError(f"does not fit into {bits} bits")
    return int(value)


def _float(value: Any, _: Field) -> float:
    if not isinstance(value, (int, float, Decimal)):
        raise ValueError("is not a number")
    return float(value)


def _decimal(value: Any, field: Field) -> Decimal:
    kind = field.type
    if isinstance(value, float):
        value = repr(value)  # the shortest decimal that is this float, as the source shows it
    value = _unpacked(value)
    if not isinstance(value, (int, str, Decimal)):
        raise ValueError("is not a number")
    number = Decimal(value)
    if not number.is_finite():
        raise ValueError(f"is {number}, which is not a number")
    try:
        exact = number.quantize(Decimal(1).scaleb(-kind.scale), context=EXACT)
    except Inexact:
        raise ValueError(f"has more than {kind.scale} decimals") from None
    if exact and exact.adjusted() >= kind.precision - kind.scale:
        raise ValueError(f"has more than {kind.precision - kind.scale} digits before the point")
    return exact


def _timestamp(value: Any, field: Field) -> datetime:
    found = _parsed(value, field) if isinstance(value, str) else value
    if type(found) is date:
        found = datetime.combine(found, time())
    if not isinstance(found, datetime):
        raise ValueError("is not a time")
    if field.type.tz is None:
        if found.tzinfo:
            raise ValueError("has a time zone, and the contract wants none")
        return found
    if found.tzinfo is None:
        if field.zone:
            found = localised(found, field.zone)
        elif isinstance(value, str):
            raise ValueError("has no time zone, and the source declares none for its times")
        else:
            found = found.replace(tzinfo=timezone.utc)  # of a session whose zone is UTC
    return found.astimezone(timezone.utc)


def _parsed(value: str, field: Field) -> datetime:
    """Parse ISO 8601, with a blank or a T in its middle; Python 3.10 knows no Z and no fractions but 3 or 6 digits."""
    if is_zero_date(value, field):
        raise ValueError("is the zero date")
    text = value.strip().replace("Z", "+00:00")
    text = re.sub(r"(?<=:\d\d)\.(\d{1,6})\d*", lambda found: f".{found[1]:<06}", text)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("is not a date or time") from None


def localised(value: datetime, zone: str) -> datetime:
    """Return the instant of a local time.

    Raises:
        ValueError: the clocks showed it twice, or never.
    """
    first = value.replace(tzinfo=ZoneInfo(zone), fold=0)
    if first.utcoffset() != first.replace(fold=1).utcoffset():
        raise ValueError(f"is a local time that came twice or never in {zone}")
    return first


def _date(value: Any, field: Field) -> date:
    found = _parsed(value, field) if isinstance(value, str) else value
    if isinstance(found, datetime):
        if found.time() != time():
            raise ValueError("has a time of day, which would be cut off")
        return found.date()
    if not isinstance(found, date):
        raise ValueError("is not a date")
    return found


def _binary(value: Any, _: Field) -> bytes:
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if callable(read := getattr(value, "read", None)):
        value = read()
    if not isinstance(value, bytes):
        raise ValueError("is text, not bytes")
    return value


def _text(value: Any, _: Field) -> str:
    if callable(read := getattr(value, "read", None)):  # a large object of Oracle
        value = read()
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise ValueError("is not UTF-8 text")
    if isinstance(value, (dict, list)):
        return written(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _duration(value)
    if isinstance(value, (set, frozenset)):
        return ",".join(sorted(map(str, value)))
    if isinstance(value, float) and not isfinite(value):
        raise ValueError("is not a number")
    if isinstance(value, (str, int, float, Decimal, UUID)):
        return str(value)
    raise ValueError("is not text")


def _duration(value: timedelta) -> str:
    """Return MySQL's TIME as it writes it: [-]HHH:MM:SS[.ffffff]."""
    sign, whole = ("-", -value) if value < timedelta(0) else ("", value)
    minutes, seconds = divmod(whole.days * 86400 + whole.seconds, 60)
    fraction = f".{whole.microseconds:06}" if whole.microseconds else ""
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}:{seconds:02}{fraction}"


T = pa.types
HOW: tuple[tuple[Callable[[pa.DataType], bool], type, Callable[[Any, Field], Any]], ...] = (
    (T.is_boolean, bool, _boolean),
    (T.is_integer, int, _integer),
    (T.is_floating, float, _float),
    (T.is_decimal, Decimal, _decimal),
    (T.is_timestamp, datetime, _timestamp),
    (T.is_date, date, _date),
    (T.is_binary, bytes, _binary),
)
"""For each kind of column: the Python type that needs no conversion, and the conversion of others; else it is text."""
