"""JSON to Arrow: every digit is kept, what does not fit is refused alone, and nothing goes lost."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from granary.load.contract import ContractBrokenError
from granary.readers.api.rows import Rows, depth
from granary.sources.spec import Column, Table
from granary.sources.units import SourceBatch
from granary.warehouse.json_text import decode as parse
from granary.warehouse.json_text import encode, flaw_in

INSTANT = pa.timestamp("us", tz="UTC")


def contract(*columns: Column) -> Table:
    return Table("t", "A table.", "/t", columns, "replace", timedelta(days=1), (columns[0].name,))


def column(name: str, kind: pa.DataType, *aliases: str, **more: Any) -> Column:
    return Column(name, kind, "A column.", aliases=aliases, **more)


KEY = column("id", pa.int64(), nullable=False)


def read(text: str, *columns: Column, deep: int = 32) -> SourceBatch:
    return Rows(contract(KEY, *columns), deep).source_batch(parse(text.encode()))


def values(kind: pa.DataType, *written: str) -> tuple[list[Any], list[tuple[int, str]]]:
    """Return what a column has of JSON values, and the places and reasons of the rows that it refuses."""
    text = ",".join(f'{{"id":{n},"v":{value}}}' for n, value in enumerate(written))
    source_batch = read(f"[{text}]", column("v", kind))
    return source_batch.batch["v"].to_pylist(), [(index, bad.reason) for index, bad in source_batch.rejected]


def test_whole_numbers() -> None:
    fits, others = ("1", "-9223372036854775808", "null", "2.0"), ("1.5", "true", '"7"', "1e400", "9223372036854775808")
    good, bad = values(pa.int64(), *fits, *others)
    assert good == [1, -(2**63), None, 2]
    assert [index for index, _ in bad] == [4, 5, 6, 7, 8]
    assert bad[0] == (4, "is not a valid int64")
    assert bad[3] == (7, "holds a number beyond those that a double can hold")


def test_decimals_keep_every_digit() -> None:
    kind, long = pa.decimal128(38, 18), "12345678901234567890.123456789012345678"
    good, bad = values(kind, "0.1", long, '"2.50"', "3", "1e-3", '"x"', "true")
    assert good == [Decimal("0.1"), Decimal(long), Decimal("2.5"), 3, Decimal("0.001")]
    assert bad == [(5, "is not a valid decimal128(38, 18)"), (6, "is not a valid decimal128(38, 18)")]
    assert values(pa.decimal128(4, 2), "12.34", "12.345", "123.4") == (
        [Decimal("12.34")],
        [(1, "is not a valid decimal128(4, 2)"), (2, "is not a valid decimal128(4, 2)")],
    )


def test_other_numbers_and_booleans() -> None:
    assert values(pa.float64(), "1", "0.25", "0.12345678901234567890", "true", "1e400") == (
        [1.0, 0.25, 0.12345678901234568],
        [(3, "is not a valid double"), (4, "holds a number beyond those that a double can hold")],
    )
    assert values(pa.bool_(), "true", "false", "null", "1", '"true"') == (
        [True, False, None],
        [(3, "is not a valid bool"), (4, "is not a valid bool")],
    )


def test_times() -> None:
    fits, others = (
        ('"2017-03-12T00:00:00-05:00"', '"2017-03-12T05:00:00.123456789Z"'),
        ('"2017-03-12T05:00:00"', "14892"),
    )
    good, bad = values(INSTANT, *fits, *others)
    assert good == [
        datetime(2017, 3, 12, 5, tzinfo=timezone.utc),
        datetime(2017, 3, 12, 5, 0, 0, 123456, tzinfo=timezone.utc),
    ]
    assert [index for index, _ in bad] == [2, 3]
    assert values(pa.date32(), '"2017-03-12"', '"2017-02-30"', "20170312")[0] == [date(2017, 3, 12)]


def test_text() -> None:
    good, bad = values(pa.string(), '"ü"', "null", '{"a":[1,"ü"]}', "[]", "5", "true", r'"\ud83d"', r'"\ud83d\ude00"')
    assert good == ["ü", None, '{"a":[1,"ü"]}', "[]", "😀"]
    assert bad == [(4, "is not a valid string"), (5, "is not a valid string"), (6, "holds half of a surrogate pair")]


def test_what_is_nested_too_deep_is_refused_alone() -> None:
    source_batch = read(f'[{{"id":1,"v":{"[" * 4}{"]" * 4}}},{{"id":2,"v":{"[" * 5}{"]" * 5}}}]', deep=4)
    assert source_batch.batch.to_pydict() == {"id": [1], "v": ["[[[[]]]]"]}
    ((index, bad),) = source_batch.rejected
    assert (index, bad.column, bad.payload) == (1, "v", {"id": 2, "v": [[[[[]]]]]})
    assert bad.reason == "is nested deeper than 4 levels"


def test_columns_that_no_contract_names_are_text() -> None:
    source_batch = read('[{"id":1,"a":1,"b":null,"c":true},{"id":2,"a":"x","b":null,"c":{"d":1.50}},{"id":3,"e":0.5}]')
    assert source_batch.rejected == ()
    assert source_batch.batch.to_pydict() == {
        "id": [1, 2, 3],
        "a": ["1", "x", None],
        "c": ["true", '{"d":1.50}', None],
        "e": [None, None, "0.5"],
    }


def test_rows_that_are_no_objects() -> None:
    source_batch = read('[{"id":1},7,{"id":2},null,[{"id":3}]]')
    assert source_batch.batch.to_pydict() == {"id": [1, 2]}
    assert [(i, bad.reason, bad.payload) for i, bad in source_batch.rejected] == [
        (1, "is not a JSON object", {"row": 7}),
        (3, "is not a JSON object", {"row": None}),
        (4, "is not a JSON object", {"row": [{"id": 3}]}),
    ]
    assert source_batch.places(1).to_pylist() == [1, 3]


def test_a_former_name() -> None:
    source_batch = read('[{"id":1,"price":5},{"id":2,"price":6}]', column("amount", pa.int64(), "price"))
    assert source_batch.batch.to_pydict() == {"id": [1, 2], "price": [5, 6]}  # the seam renames it, and says so
    mixed = read('[{"id":1,"price":5},{"id":2,"amount":6}]', column("amount", pa.int64(), "price"))
    assert mixed.batch.to_pydict() == {"id": [1, 2], "amount": [5, 6]}


def test_parts_of_nested_objects() -> None:
    city, lat = column("city", pa.string(), "address.city"), column("lat", pa.float64(), "address.geo.lat")
    source_batch = read(
        '[{"id":1,"address":{"city":"Ulm","zip":"89073","geo":{"lat":48.4,"alt":478}}},'
        '{"id":2,"address":null},{"id":3,"address":{"geo":null}},{"id":4,"address":"Ulm"},{"id":5}]',
        city,
        lat,
    )
    assert source_batch.batch.to_pydict() == {
        "id": [1, 2, 3, 5],
        "city": ["Ulm", None, None, None],
        "lat": [48.4, None, None, None],
        "address_geo_alt": ["478", None, None, None],
        "address_zip": ["89073", None, None, None],
    }
    assert [(i, bad.column, bad.reason) for i, bad in source_batch.rejected] == [(3, "address", "is not a JSON object")]


def test_a_part_of_the_object_of_the_same_name() -> None:
    source_batch = read(
        '[{"id":1,"customer":{"name":"A"}},{"id":2,"customer":null}]', column("customer", pa.string(), "customer.name")
    )
    assert source_batch.batch.to_pydict() == {"id": [1, 2], "customer": ["A", None]}


def test_a_name_with_a_dot_in_it() -> None:
    source_batch = read('[{"id":1,"a.b":5}]', column("b", pa.int64(), "a.b"))
    assert source_batch.batch.to_pydict() == {"id": [1], "b": [5]}


def test_a_column_that_is_gone() -> None:
    rows = Rows(contract(KEY, column("a", pa.int64()), column("b", pa.int64(), missing="null")), 32)
    rows.source_batch([{"id": n} for n in range(19)])
    rows.finish("a load of few rows")
    rows.source_batch([{"id": 20}])
    with pytest.raises(ContractBrokenError, match="column a is missing: none of 20 rows has it"):
        rows.finish("here")
    rows.source_batch([{"id": 21, "a": None}])
    rows.finish("it came once")


def test_an_empty_page_has_the_columns() -> None:
    assert read("[]", column("v", INSTANT)).batch.schema == pa.schema([("id", pa.int64()), ("v", INSTANT)])


@pytest.mark.parametrize(
    "text", ["", "[", "nan", "[+1]", "[01]", "[1] x", "[1][2]", "[1,]", "[" * 100_000, "'x'", '{"a":}']
)
def test_what_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text.encode())


def test_bytes_that_are_no_text_cost_their_row() -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(b"\xff")
    source_batch = Rows(contract(KEY, column("v", pa.string())), 32).source_batch(
        parse(b'[{"id":1,"v":"\xff"},{"id":2,"v":"x"}]')
    )
    assert source_batch.batch.to_pydict() == {"id": [2], "v": ["x"]}
    assert source_batch.rejected[0][1].reason == "holds text that is not UTF-8"


def test_a_byte_order_mark_is_no_harm() -> None:
    assert parse(b"\xef\xbb\xbf[1]") == [1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(JSON | st.fixed_dictionaries({"id": JSON, "v": JSON, "w": JSON}), max_size=6))
def test_whatever_comes_is_loaded_or_refused(delivered: list[Any]) -> None:
    rows = Rows(contract(KEY, column("v", pa.string()), column("w", INSTANT)), 8)
    source_batch = rows.source_batch(parse(json.dumps(delivered).encode()))
    assert source_batch.rows == len(delivered)
    held = [row["id"] for row in delivered if isinstance(row, dict) and isinstance(row.get("id"), int)]
    assert set(source_batch.batch["id"].to_pylist()) <= {*map(float, held), None} | {
        row["id"] for row in delivered if isinstance(row, dict) and isinstance(row.get("id"), float)
    }


@given(JSON)
def test_what_is_parsed_is_what_was_sent(value: Any) -> None:
    sent = json.dumps(value)
    found = parse(sent.encode())
    if reason := flaw_in(found):
        assert reason == "holds a NUL character"
        assert "\\u0000" in sent
    else:
        again, first = (json.loads(text, parse_float=Decimal, parse_int=Decimal) for text in (encode(found), sent))
        assert again == first


@given(JSON)
def test_depth(value: Any) -> None:
    def recursive(value: Any) -> int:
        if isinstance(value, dict):
            value = list(value.values())
        return 1 + max(map(recursive, value), default=0) if isinstance(value, list) else 0

    assert depth(value) == recursive(value)
