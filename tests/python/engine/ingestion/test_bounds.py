"""Bounds of each type, and numbers that are not finite."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from math import inf, nan
from typing import Any

import pyarrow as pa
import pytest

from granary.load.contract import conform, shape
from granary.sources.spec import Column
from granary.sources.units import SourceBatch
from tests.python.support.shop import table

DAY, NOON = date(2017, 1, 2), datetime(2017, 1, 2, 12)  # noqa: DTZ001 - columns without a zone
ZONED = NOON.replace(tzinfo=timezone.utc)
TICK = timedelta(microseconds=1)


def refused(column: Column, values: list[Any], kind: pa.DataType | None = None) -> list[tuple[int, str]]:
    """Return row and reason of the values that a column refuses."""
    contract = table(column, new_columns="add")
    batch = pa.RecordBatch.from_arrays(
        [pa.array(range(len(values)), pa.int64()), pa.array(values, kind or column.type)], names=["id", column.name]
    )
    return [
        (refusal.row, refusal.reason)
        for refusal in conform(contract, shape(contract, batch.schema, "here"), SourceBatch(batch), 1)[2]
    ]


@pytest.mark.parametrize(
    ("kind", "bounds", "values", "reasons"),
    [
        (pa.int32(), (0, 2_147_483_646), [-1, 0, 2_147_483_646, 2_147_483_647, None], ["0", "2147483646"]),
        (pa.int64(), (0.5, 2.5), [0, 1, 2, 3], ["0.5", "2.5"]),
        (pa.int16(), (-(10**9), 10**9), [-32_768, 32_767], []),
        (pa.float64(), (0, 1.5), [-0.1, 0.0, 1.5, 1.6], ["0", "1.5"]),
        (
            pa.decimal128(12, 2),
            (Decimal("0.01"), 99.99),
            [Decimal("0.00"), Decimal("0.01"), Decimal("99.99"), Decimal("100.00")],
            ["0.01", "99.99"],
        ),
        (pa.decimal128(5, 2), (Decimal("0.005"), 10**9), [Decimal("0.00"), Decimal("0.01")], ["0.005"]),
        (
            pa.date32(),
            (DAY, DAY),
            [DAY - timedelta(days=1), DAY, DAY + timedelta(days=1)],
            ["2017-01-02", "2017-01-02"],
        ),
        (pa.timestamp("us"), (NOON, NOON), [NOON - TICK, NOON, NOON + TICK], ["2017-01-02 12:00:00"] * 2),
        (
            pa.timestamp("us", tz="UTC"),
            (ZONED.astimezone(timezone(timedelta(hours=5))), ZONED),
            [ZONED - TICK, ZONED, ZONED + TICK],
            ["2017-01-02 17:00:00+05:00", "2017-01-02 12:00:00+00:00"],
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, pa.DataType) else "",
)
def test_a_value_outside_its_bounds_is_refused_alone(
    kind: pa.DataType, bounds: tuple[Any, Any], values: list[Any], reasons: list[str]
) -> None:
    column = Column("value", kind, "Value.", minimum=bounds[0], maximum=bounds[1])
    first = [(1, f"is below {reasons[0]}")] if reasons else []
    last = [(4 if len(values) > 3 else len(values), f"is above {reasons[1]}")] if len(reasons) > 1 else []
    assert refused(column, values) == [*first, *last]


def test_bounds_of_text_and_bytes_are_lengths() -> None:
    text = Column("value", pa.string(), "Text.", minimum=1, maximum=3)
    assert refused(text, ["", "a", "äöü", "äöüß", None]) == [
        (1, "has fewer than 1 characters"),
        (4, "has more than 3 characters"),
    ]
    assert refused(Column("value", pa.binary(), "Bytes.", maximum=2), [b"ab", b"abc"]) == [(2, "has more than 2 bytes")]


def test_numbers_that_are_not_finite() -> None:
    values = [1.0, nan, inf, -inf, None]
    assert refused(Column("value", pa.float64(), "V.", minimum=0), values) == [
        (row, "is not a finite number") for row in (2, 3, 4)
    ]
    assert refused(Column("value", pa.float32(), "V."), values) == [
        (row, "is not a finite number") for row in (2, 3, 4)
    ]
    assert refused(Column("value", pa.float64(), "V.", finite=False), values) == []
    assert refused(Column("value", pa.float64(), "V.", finite=False, minimum=0), values) == [
        (2, "is not a number, and has bounds"),
        (4, "is below 0"),
    ]
    contract = table()
    batch = pa.RecordBatch.from_pydict({"id": [1, 2], "new": [1.5, nan]})
    _, _, refusals = conform(contract, shape(contract, batch.schema, "here"), SourceBatch(batch), 1)
    assert [(refusal.row, refusal.column, refusal.reason) for refusal in refusals] == [
        (2, "new", "is not a finite number")
    ]


@pytest.mark.parametrize(
    ("kind", "bound", "words"),
    [
        (pa.int64(), "x", "minimum is a whole number or a number or Decimal"),
        (pa.int64(), nan, "minimum is a number, and not nan"),
        (pa.int64(), DAY, "minimum is a number"),
        (pa.date32(), NOON, r"minimum is a date: write date\(2026, 1, 1\)"),
        (pa.date32(), 5, "minimum is a date"),
        (pa.timestamp("us"), ZONED, "minimum is an instant without a zone"),
        (pa.timestamp("us", tz="UTC"), NOON, "tzinfo=timezone.utc"),
        (pa.timestamp("us", tz="UTC"), DAY, "minimum is an instant"),
        (pa.string(), -1, "minimum is a length"),
        (pa.string(), 1.5, "minimum is a length"),
        (pa.bool_(), 1, "truth values have no bounds"),
    ],
)
def test_bounds_are_of_the_column_s_kind(kind: pa.DataType, bound: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Column("value", kind, "Value.", minimum=bound)


def test_bounds_that_hold_nothing_and_finite_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="its minimum is over its maximum"):
        Column("value", pa.int64(), "Value.", minimum=2, maximum=1)
    with pytest.raises(ValueError, match="only floating-point numbers"):
        Column("value", pa.string(), "Value.", finite=False)


def test_a_key_is_no_longer_than_its_index_can_take() -> None:
    """In bytes, not characters; a key of several columns shares them."""
    words = ["x" * 2_600, "x" * 2_601, "é" * 1_300, "é" * 1_301]
    code = Column("code", pa.string(), "Code.", nullable=False)
    for key, most, rows in ((("code",), "2,600", [2, 4]), (("code", "id"), "1,300", [1, 2, 3, 4])):
        contract = table(code, key=key, disposition="append")
        batch = pa.RecordBatch.from_pydict({"id": pa.array(range(4), pa.int64()), "code": words})
        found = conform(contract, shape(contract, batch.schema, "here"), SourceBatch(batch), 1)[2]
        assert [(refusal.row, refusal.column) for refusal in found] == [(row, "code") for row in rows]
        assert {refusal.reason for refusal in found} == {f"is longer than the {most} bytes that a key may have"}
