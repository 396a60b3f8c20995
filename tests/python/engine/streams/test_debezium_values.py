"""Values of Debezium's messages: what each of its types is as text."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from granary.streams.debezium.fields import Field
from granary.streams.debezium.values import MisfitError, text

D, C = "io.debezium.time.", "org.apache.kafka.connect.data."


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        (Field("int32", D + "Date"), -719_162, "0001-01-01"),
        (Field("int32", C + "Date"), date(2024, 2, 29), "2024-02-29"),
        (Field("int64", D + "Timestamp"), -1, "1969-12-31 23:59:59.999000"),
        (Field("int64", D + "NanoTimestamp"), 1_999, "1970-01-01 00:00:00.000001"),
        (Field("int32", D + "Time"), 86_400_000, "24:00:00"),
        (Field("int64", D + "MicroTime"), -3_020_399_000_001, "-838:59:59.000001"),
        (Field("string", D + "ZonedTimestamp"), "2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        (Field("int64"), 2**63 - 1, "9223372036854775807"),
        (Field("boolean"), False, "false"),
        (Field("bytes", C + "Decimal", {"scale": "3"}), "AQ==", "0.001"),
        (Field("struct", "io.debezium.data.VariableScaleDecimal"), {"scale": 1, "value": "/w=="}, "-0.1"),
        (Field("bytes"), "AP8=", "\\x00ff"),
        (Field("bytes", "io.debezium.data.Bits"), b"\x05", "\\x05"),
        (Field("struct", "io.debezium.data.geometry.Point"), {"x": Decimal("1.5")}, '{"x":1.5}'),
        (None, Decimal("1.10"), "1.10"),
    ],
)
def test_values(field: Field | None, value: Any, expected: str) -> None:
    assert text(field, value) == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (Field("int32", D + "Date"), 2**31 - 1),
        (Field("int64", D + "Timestamp"), "soon"),
        (Field("bytes"), "not base64!"),
        (Field("struct", "io.debezium.data.VariableScaleDecimal"), {"scale": 1}),
    ],
)
def test_values_that_are_none_of_their_type(field: Field, value: Any) -> None:
    with pytest.raises(MisfitError, match="is not a valid"):
        text(field, value)
