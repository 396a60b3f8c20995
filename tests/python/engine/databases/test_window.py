"""Where reading begins, and how a table is split: pure functions, values worked out by hand."""
# ruff: noqa: DTZ001 - times without a zone are what is tested

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from granary.readers.database.window import Overlap, ranges, splittable, start_of, wall_time
from granary.warehouse.errors import GranaryError
from tests.python.engine.databases.conftest import INSTANT, contract

UTC = timezone.utc


def cursor(kind: pa.DataType, **changes: Any) -> Any:
    return contract("t", columns={"id": pa.int64(), "c": kind}, cursor="c", **changes)


def test_start_is_the_watermark_less_the_overlap() -> None:
    ten = Overlap(timedelta(minutes=10), number=100)
    noon = "2017-01-02T12:00:00+00:00"
    assert start_of(cursor(INSTANT), noon, Overlap()) == datetime(2017, 1, 2, 12, tzinfo=UTC)
    assert start_of(cursor(INSTANT), noon, ten) == datetime(2017, 1, 2, 11, 50, tzinfo=UTC)
    assert start_of(cursor(pa.timestamp("us")), "2017-01-02T12:00:00", ten) == datetime(2017, 1, 2, 11, 50)
    assert start_of(cursor(pa.int64()), "5000", ten) == 4900
    # Ten minutes before a day are in the day before it.
    assert start_of(cursor(pa.date32()), "2017-01-02", ten) == date(2017, 1, 1)
    assert start_of(cursor(pa.date32()), "2017-01-02", Overlap()) == date(2017, 1, 2)
    assert start_of(cursor(pa.date32()), "2017-01-04", Overlap(timedelta(days=2))) == date(2017, 1, 2)


def test_everything_is_read_where_a_start_would_lose_rows() -> None:
    assert start_of(cursor(INSTANT), None, Overlap()) is None
    assert start_of(contract("t"), "2017-01-02", Overlap()) is None
    assert start_of(cursor(INSTANT, disposition="replace"), "2017-01-02T00:00:00+00:00", Overlap()) is None
    assert start_of(cursor(pa.date32()), "0001-01-01", Overlap(timedelta(days=1))) is None


@pytest.mark.parametrize(
    ("kind", "watermark"), [(pa.int64(), "1; drop table x"), (pa.date32(), "yesterday"), (INSTANT, "")]
)
def test_watermark_that_is_none(kind: pa.DataType, watermark: str) -> None:
    with pytest.raises(GranaryError, match=r"the watermark .* is not a valid .*--full-refresh"):
        start_of(cursor(kind), watermark, Overlap())


def test_cursor_that_can_be_none() -> None:
    with pytest.raises(GranaryError, match="c is string, which is not a cursor"):
        start_of(cursor(pa.string()), None, Overlap())


def test_local_start_covers_the_hour_that_clocks_repeat() -> None:
    # 05:30 UTC is 01:30 the first time; 06:10 UTC, later, is 01:10.
    start = datetime(2017, 11, 5, 5, 30, tzinfo=UTC)
    assert wall_time(start, "America/New_York") == datetime(2017, 11, 5, 0, 30)
    assert wall_time(start, "UTC") == datetime(2017, 11, 5, 5, 30)
    assert wall_time(7, "UTC") == 7


def test_only_a_key_of_one_integer_splits() -> None:
    assert splittable(contract("t"))
    assert not splittable(contract("t", columns={"id": pa.string()}))
    assert not splittable(contract("t", key=None))


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 10**6), st.integers(2, 9), st.integers(-(2**63), 2**63 - 1))
def test_ranges_cover_each_key_once(low: int, width: int, readers: int, key: int) -> None:
    parts = ranges("id", (low, low + width), readers)
    assert len(parts) == min(readers * 8, width + 1)

    def within(value: int) -> int:
        return sum((p.low is None or value >= p.low) and (p.high is None or value < p.high) for p in parts)

    assert [within(value) for value in (key, low, low + width, low + width // 2)] == [1, 1, 1, 1]


def test_ranges_are_even() -> None:
    parts = ranges("id", (1, 1600), 2)
    assert [(p.low, p.high) for p in parts[:3]] == [(None, 101), (101, 201), (201, 301)]
    assert (parts[-1].low, parts[-1].high, len(parts)) == (1501, None, 16)
