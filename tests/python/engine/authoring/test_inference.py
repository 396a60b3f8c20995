"""Types, keys and enumerations that a sample shows, against what a person reads in it."""

from __future__ import annotations

import re
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from granary.load.types import cast
from granary.profiling.evidence import candidate_keys, evidence
from granary.profiling.inference import infer, null_words
from granary.profiling.names import personal, snake

MONEY, ZONED, LOCAL = pa.decimal128(18, 2), pa.timestamp("us", tz="UTC"), pa.timestamp("us")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "-2", "", None], pa.int64()),
        ([" 1 ", "2"], pa.int64()),
        (["0", "10"], pa.int64()),
        (["01", "2"], pa.string()),  # a postcode
        (["1" * 18], pa.int64()),
        (["1" * 19], pa.string()),  # no bigint holds every such number
        (["1.5", "2"], MONEY),
        (["1.505"], pa.decimal128(18, 3)),
        (["00.5"], pa.string()),
        (["1.0000000001"], pa.float64()),
        (["1e5", "2"], pa.string()),  # what program writes 1e5, and not 1e+05 or 100000?
        (["12E5", "13E7", "1E2"], pa.string()),  # codes of articles
        (["1.5E3", "12E5"], pa.string()),
        (["1012.3", "1e3", "999.5"], pa.float64()),  # as R writes 1000
        (["1.5e25", "2"], pa.float64()),
        (["1e-05", "0.25", "1E+20"], pa.float64()),
        (["1.5e400"], pa.string()),  # no double holds it
        (["0.1234567890123456789"], pa.decimal128(38, 19)),  # and no double so many digits
        (["123456789012345678.91"], pa.decimal128(38, 2)),
        (["0.30000000000000004", "1.5"], pa.float64()),
        (["1" * 40 + ".5"], pa.string()),
        (["1.9", "1.10", "1.1"], pa.string()),  # versions: two of them would be one number
        (["0.00", "-0.00", "1.50"], MONEY),
        (["1012", "1012.0", "1011.9"], MONEY),
        (["00123", "124"], pa.string()),
        (["+4930123", "4930124"], pa.string()),
        (["1_000"], pa.string()),
        (["0x10"], pa.string()),
        (["Infinity", "1.5"], pa.string()),
        (["nan"], pa.string()),
        (["T", "F"], pa.string()),
        (["1234567890123456789012"], pa.string()),
        (["true", "FALSE"], pa.bool_()),
        (["yes", "no"], pa.string()),
        (["2024-02-29"], pa.date32()),
        (["2023-02-29"], pa.string()),  # there is no such day
        (["29.02.2024"], pa.string()),
        (["2024-01-01T10:00", "2024-01-01 10:00:01.5"], LOCAL),
        (["2024-01-01T10:00Z", "2024-01-01 10:00:01+02:00"], ZONED),
        (["2024-01-01T10:00Z", "2024-01-01 10:00:01"], pa.string()),
        (["2024-01-01T25:00"], pa.string()),
        (["1", "x"], pa.string()),
        ([None, ""], pa.string()),
    ],
)
def test_the_type_is_the_narrowest_that_every_value_has(values: list[str | None], expected: pa.DataType) -> None:
    assert infer(pa.chunked_array([pa.array(values, pa.string())])) == expected


def test_text_of_json_is_only_parsed_for_times() -> None:
    def of(value: str) -> pa.DataType:
        return infer(pa.chunked_array([pa.array([value])]), only_times=True)

    assert [of("12"), of("true"), of("2024-01-01"), of("2024-01-01T00:00:00Z")] == [
        pa.string(),
        pa.string(),
        pa.date32(),
        ZONED,
    ]


TEXTS = st.one_of(
    st.from_regex(r"-?[0-9]{1,22}(\.[0-9]{1,22})?([eE][-+]?[0-9]{1,3})?", fullmatch=True),
    st.integers().map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
    st.datetimes().map(str),
    st.dates().map(str),
    st.text(max_size=6),
    st.sampled_from(["", "true", "False", "1e9", "-0", "+1", "0x1", "1_0", "\u0663", "\uff12", " 7", "1\n"]),
)


@given(st.lists(TEXTS, max_size=8))
def test_a_number_keeps_what_was_written(texts: list[str]) -> None:
    values = pa.array(texts, pa.string())
    kind = infer(pa.chunked_array([values]))
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return
    for text, value in zip(texts, cast(values, kind, text=True)[0].to_pylist(), strict=True):
        if text.strip():
            assert Decimal(repr(value) if isinstance(value, float) else value) == Decimal(text.strip())
            assert re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?", text.strip())


@pytest.mark.parametrize(
    ("values", "known", "expected"),
    [
        (["1", "NA", "2", "NA"], (), ("NA",)),
        (["1.5", "n/a", "-", ""], (), ("-", "n/a")),
        (["2024-01-01", "0000-00-00", "unknown"], (), ("0000-00-00", "unknown")),
        (["N103US", "NA"], (), ()),  # among texts NA may be a value
        (["N103US", "NA", "unknown"], ("NA", "unknown"), ("NA",)),
        (["DE", "FR", "NA"], ("NA",), ()),  # Namibia
        (["open", "NULL", "\\N"], (), ("NULL", "\\N")),
        (["open", "-", "+"], (), ()),
        (["1", "2"], (), ()),
        (["12E5", "NA"], (), ()),
    ],
)
def test_words_that_stand_for_no_value(values: list[str], known: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert null_words(pa.chunked_array([pa.array(values)]), known) == tuple(sorted(expected))


@given(st.lists(TEXTS, max_size=8))
def test_the_loader_reads_every_value_as_the_inferred_type(texts: list[str]) -> None:
    values = pa.array(texts, pa.string())
    kind = infer(pa.chunked_array([values]))
    assert cast(values, kind, text=True)[1] is None


def test_an_enumeration_needs_rows_enough() -> None:
    def values(texts: list[str]) -> tuple[str, ...]:
        return evidence("state", pa.chunked_array([pa.array(texts)])).values

    assert values(["open", "paid"] * 10) == ("open", "paid")
    assert values(["open", "paid"] * 9) == ()  # 18 rows
    assert values(["open"] * 30) == ()  # nothing is told apart
    assert values([f"v{n % 13}" for n in range(100)]) == ()
    assert values(["open", "pa\nid"] * 10) == ()


def test_a_key_is_named_like_its_table_and_no_measure_is_one() -> None:
    table = pa.table(
        {
            "amount": pa.array([Decimal(1), Decimal(2), Decimal(3), Decimal(4)], MONEY),
            "day": ["a", "b", "c", "d"],
            "order_id": [9, 8, 7, 6],
            "payment": ["p1", "p2", "p3", "p4"],
            "same": [1, 1, 1, 1],
        }
    )
    found = [evidence(name, table[name]) for name in table.column_names]
    assert list(candidate_keys(table, found, "payment")) == [("payment",), ("order_id",), ("day",)]
    assert next(candidate_keys(table, found)) == ("order_id",)


def test_a_pair_is_a_key_where_no_column_is() -> None:
    table = pa.table({"note": ["x"] * 6, "order_no": [1, 1, 1, 2, 2, 2], "line_no": [1, 2, 3, 1, 2, 3]})
    found = [evidence(name, table[name]) for name in table.column_names]
    assert list(candidate_keys(table, found)) == [("order_no", "line_no")]
    again = pa.concat_tables([table, table.slice(0, 1)])
    assert list(candidate_keys(again, [evidence(name, again[name]) for name in again.column_names])) == []


@pytest.mark.parametrize(
    ("name", "table", "expected"),
    [
        ("E-Mail", "", "identifier"),
        ("customer_email", "", "identifier"),
        ("phone_number", "", "identifier"),
        ("firstName", "", "identifier"),
        ("Name", "members", "identifier"),
        ("name", "stations", None),
        ("birth_date", "", "demographic"),
        ("street", "", "demographic"),
        ("email_count", "", None),
        ("zip_file", "", None),
        ("shipping_cost", "", None),
    ],
)
def test_personal_data_is_guessed_by_name(name: str, table: str, expected: str | None) -> None:
    assert personal(name, table) == expected


def test_headers_become_lower_snake_case() -> None:
    headers = ["Household ID", "orderDate", "HTTPStatus", "Größe (cm)", "Łódź", "  ", "日本", "a.b"]
    assert [snake(header) for header in headers] == [
        "household_id",
        "order_date",
        "http_status",
        "grosse_cm",
        "lodz",
        "",
        "",
        "a_b",
    ]
