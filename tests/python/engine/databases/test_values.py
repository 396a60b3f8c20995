"""Values of drivers, one by one: what they become, and what is refused instead of bent."""
# ruff: noqa: DTZ001 - times without a zone are what is tested

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from granary.readers.database.values import Field, column

UTC = timezone.utc
INSTANT = pa.timestamp("us", tz="UTC")
WALL = pa.timestamp("us")


def one(value: Any, kind: pa.DataType, zone: str | None = None, **options: Any) -> Any:
    """Return what a value becomes, or the reason why it is refused as a string in a tuple."""
    array, problems = column([value], Field("c", kind, zone=zone), **options)
    assert array.type == kind
    assert (array[0].as_py() is None) or not problems
    return (problems[0],) if problems else array[0].as_py()


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (True, pa.bool_(), True),
        (0, pa.bool_(), False),
        (b"\x01", pa.bool_(), True),
        (2, pa.bool_(), ("is neither 0 nor 1",)),
        ("1", pa.bool_(), ("is neither 0 nor 1",)),
        (2**63 - 1, pa.int64(), 2**63 - 1),
        (2**63, pa.int64(), ("does not fit into 64 bits",)),
        (18446744073709551615, pa.decimal128(20, 0), Decimal(18446744073709551615)),
        (40000, pa.int16(), ("does not fit into 16 bits",)),
        (Decimal("7"), pa.int64(), 7),
        (Decimal("7.5"), pa.int64(), ("is not a whole number",)),
        ("7", pa.int64(), ("is not a whole number",)),
        (b"\x01\x00", pa.int64(), 256),
        (float("inf"), pa.int64(), ("is not a valid int64",)),
        (Decimal("1.10"), pa.decimal128(12, 2), Decimal("1.10")),
        (Decimal("1.100"), pa.decimal128(12, 2), Decimal("1.10")),
        (Decimal("1.105"), pa.decimal128(12, 2), ("has more than 2 decimals",)),
        (Decimal("12345.00"), pa.decimal128(6, 2), ("has more than 4 digits before the point",)),
        (Decimal("-9999.99"), pa.decimal128(6, 2), Decimal("-9999.99")),
        (0.1, pa.decimal128(12, 2), Decimal("0.10")),
        (Decimal("NaN"), pa.decimal128(12, 2), ("is NaN, which is not a number",)),
        ("12.50", pa.decimal128(12, 2), Decimal("12.50")),
        ("twelve", pa.decimal128(12, 2), ("is not a valid decimal128(12, 2)",)),
        (3, pa.float64(), 3.0),
        ("3", pa.float64(), ("is not a number",)),
        ("é", pa.string(), "é"),
        (b"\xff", pa.string(), ("is not UTF-8 text",)),
        (UUID(int=1), pa.string(), "00000000-0000-0000-0000-000000000001"),
        ({"a": [1, "é"]}, pa.string(), '{"a": [1, "é"]}'),
        ({"b", "a"}, pa.string(), "a,b"),
        (timedelta(hours=-30, minutes=-5), pa.string(), "-30:05:00"),
        (timedelta(seconds=1, microseconds=5), pa.string(), "00:00:01.000005"),
        (Decimal("1.50"), pa.string(), "1.50"),
        (b"\x00\xff", pa.binary(), b"\x00\xff"),
        (bytearray(b"a"), pa.binary(), b"a"),
        ("a", pa.binary(), ("is text, not bytes",)),
        (date(2017, 1, 2), pa.date32(), date(2017, 1, 2)),
        (datetime(2017, 1, 2), pa.date32(), date(2017, 1, 2)),
        (datetime(2017, 1, 2, 3), pa.date32(), ("has a time of day, which would be cut off",)),
        ("0000-00-00", pa.date32(), ("is the zero date",)),
        ("2017-00-05", pa.date32(), ("is not a date or time",)),
        (20170102, pa.date32(), ("is not a date",)),
        (datetime(2017, 1, 2, 3), WALL, datetime(2017, 1, 2, 3)),
        (date(2017, 1, 2), WALL, datetime(2017, 1, 2)),
        ("2017-01-02 03:04:05.6", WALL, datetime(2017, 1, 2, 3, 4, 5, 600_000)),
        ("2017-01-02T03:04:05Z", WALL, ("has a time zone, and the contract wants none",)),
        ("0000-00-00 00:00:00", WALL, ("is the zero date",)),
        (1483326245, WALL, ("is not a time",)),
        (datetime(2017, 1, 2, 3), INSTANT, datetime(2017, 1, 2, 3, tzinfo=UTC)),
        ("2017-01-02 03:04:05+02:00", INSTANT, datetime(2017, 1, 2, 1, 4, 5, tzinfo=UTC)),
        ("2017-01-02 03:04:05", INSTANT, ("has no time zone, and the source declares none for its times",)),
    ],
)
def test_value(value: Any, kind: pa.DataType, expected: Any) -> None:
    assert one(value, kind) == expected


def test_local_times_of_a_zone() -> None:
    york = "America/New_York"
    assert one(datetime(2017, 1, 2, 19), INSTANT, york) == datetime(2017, 1, 3, 0, tzinfo=UTC)
    assert one("2017-07-02 20:00:00", INSTANT, york) == datetime(2017, 7, 3, 0, tzinfo=UTC)
    twice, never = datetime(2017, 11, 5, 1, 30), datetime(2017, 3, 12, 2, 30)
    unclear = ("is a local time that came twice or never in America/New_York",)
    assert one(twice, INSTANT, york) == unclear
    assert one(never, INSTANT, york) == unclear


def test_zero_dates_may_be_null() -> None:
    assert one("0000-00-00", pa.date32(), zero_dates="null") is None
    assert one("0000-00-00 00:00:00", WALL, zero_dates="null") is None
    assert one("2017-00-00", pa.date32(), zero_dates="null") == ("is not a date or time",)
    assert one("0000-00-00", pa.string(), zero_dates="null") == "0000-00-00"


def test_nulls_and_good_values_stay_beside_a_refused_one() -> None:
    array, problems = column([1, None, 2**40, 4], Field("c", pa.int32()))
    assert array.to_pylist() == [1, None, None, 4]
    assert problems == {2: "does not fit into 32 bits"}
