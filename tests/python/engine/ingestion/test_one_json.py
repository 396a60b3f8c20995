"""JSON means the same by whichever way it comes: files, APIs, streams and webhooks share one strict decoder."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.load.contract import conform, shape
from granary.load.json_objects import text_of
from granary.readers.api.rows import Rows
from granary.readers.files import json_rows
from granary.readers.files.formats import Json
from granary.readers.files.limits import Limits
from granary.sources.spec import Column, Table
from granary.sources.units import SourceBatch
from granary.streams import webhooks
from granary.streams.decoding import JsonDecoder
from granary.streams.log import Message
from granary.warehouse.json_text import decode
from granary.warehouse.quarantine import json_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.records import Refusal

    Read = Callable[[Table, list[bytes]], SourceBatch]


def contract(*columns: Column, **more: Any) -> Table:
    key = Column("id", pa.int64(), "Key.", nullable=False)
    return Table("t", "A table.", "*", (key, *columns), "append", timedelta(days=1), ("id",), **more)


def column(name: str, kind: pa.DataType, *aliases: str) -> Column:
    return Column(name, kind, "A column.", aliases=aliases)


def only(source_batches: Any) -> SourceBatch:
    (source_batch,) = source_batches
    return source_batch


def lines(table: Table, rows: list[bytes]) -> SourceBatch:
    return only(json_rows.read_lines(io.BytesIO(b"\n".join([*rows, b""])), table, Limits(), "here"))


def document(table: Table, rows: list[bytes]) -> SourceBatch:
    text = b'{"page": 1, "data": [' + b", ".join(rows) + b'], "next": null}'
    return only(json_rows.read_document(io.BytesIO(text), Json("data"), table, Limits(), "here"))


def api(table: Table, rows: list[bytes]) -> SourceBatch:
    return Rows(table, 32).source_batch(decode(b"[" + b",".join(rows) + b"]"))


def stream(table: Table, rows: list[bytes]) -> SourceBatch:
    decoded = only(JsonDecoder(table, 1_000_000).decode("topic", [Message(row, n) for n, row in enumerate(rows)]))
    return SourceBatch(decoded.batch, decoded.rejected)


def webhook(table: Table, rows: list[bytes]) -> SourceBatch:
    return webhooks.decode(table, b"[" + b",".join(rows) + b"]")[0]


WAYS = pytest.mark.parametrize("read", [lines, document, api, stream, webhook])


def land(table: Table, source_batch: SourceBatch) -> tuple[list[dict[str, Any]], list[Refusal]]:
    """Return what lands of a batch, and what does not; every refusal can be kept."""
    shaped = shape(table, source_batch.batch.schema, "here")
    accepted, _, refusals = conform(table, shaped, source_batch, 0)
    assert accepted.num_rows + len(refusals) == source_batch.rows
    for refusal in refusals:
        json.loads(json_text(refusal.payload))
    return accepted.to_pylist(), refusals


def values(read: Read, kind: pa.DataType | None, *written: str) -> tuple[list[Any], list[int]]:
    """Return what the column v has of JSON values, and the places of the rows that are refused."""
    table = contract(*([column("v", kind)] if kind else []))
    rows = [b'{"id":%d,"v":%s}' % (n, text.encode()) for n, text in enumerate(written)]
    accepted, refusals = land(table, read(table, rows))
    return [row["v"] for row in accepted], [refusal.row for refusal in refusals]


# -- numbers -----------------------------------------------------------------------------------------------------------


@WAYS
def test_numbers_keep_their_digits_in_columns_of_the_contract(read: Read) -> None:
    money, small = "123456789012345678.91", "0.000000000000000001"
    assert values(read, pa.decimal128(20, 2), money, "1e2", "-0", "0.005", "1e400") == (
        [Decimal(money), Decimal(100), Decimal(0)],
        [3, 4],
    )
    assert values(read, pa.decimal128(38, 18), small, "1e-18", '"2.5"') == (
        [Decimal(small), Decimal(small), Decimal("2.5")],
        [],
    )
    assert values(read, pa.int64(), "9007199254740993", "-0", "1e3", "1.5", "9223372036854775808", "1" * 5000) == (
        [2**53 + 1, 0, 1000],
        [3, 4, 5],
    )
    assert values(read, pa.decimal128(20, 0), "18446744073709551615", "1.5") == ([2**64 - 1], [1])
    doubles, refused = values(read, pa.float64(), "-0", "0.1", "1e308", "1e400", "-1e999", "1e-400", "NaN", "Infinity")
    assert [repr(value) for value in doubles] == ["-0.0", "0.1", "1e+308"]
    assert refused == [3, 4, 5, 6, 7]
    assert values(read, pa.float64(), "0.5", "9007199254740993") == ([0.5], [1])  # a double would be another number


@WAYS
@pytest.mark.parametrize("beside", [[], ["[1]"], ["null", '{"w":1}']])
@pytest.mark.parametrize(
    "written",
    [
        ["18446744073709551615", "18446744073709551614"],
        ["123456789012345678.91", "0.5"],
        ["0.12345678901234567890"],
        ["123456789012345678901234567890"],
        ["-9223372036854775809", "1"],
        ["1.5", "2.25"],
        ["9007199254740993", "1"],
        ["0.30000000000000004", "1e22"],
    ],
)
def test_numbers_keep_their_digits_in_columns_that_no_contract_names(
    read: Read, written: list[str], beside: list[str]
) -> None:
    found, refused = values(read, None, *written, *beside)
    assert not refused
    assert [Decimal(str(value)) for value in found[: len(written)]] == [Decimal(text) for text in written]


@WAYS
def test_json_text_is_json_with_the_digits_that_came(read: Read) -> None:
    text = '{"a":[1.50,18446744073709551615,123456789012345678.91,-0,true,null,"ü\\n"],"b":{}}'
    for kind in (pa.string(), None):
        assert values(read, kind, text)[0] == [text]
    for broken in ('{"w":NaN}', "[-Infinity]", '{"w":1e999}', '{"w":"\\u0000"}', '{"w":["\\udead"]}', '{"w":1,"w":1}'):
        assert values(read, pa.string(), broken, '"x"') == (["x"], [0])
        assert values(read, None, broken, '"x"') == (["x"], [0])


# -- what means nothing costs its row ----------------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"id":2,"state":"open","state":"closed"}', "names the field 'state' twice"),
        (b'{"id":2,"state":"open","\\u0073tate":"open"}', "names the field 'state' twice"),
        (b'{"id":2,"state" :"open","x":1,"state":"x"}', "names the field 'state' twice"),
        (b'{"id":2,"state":"\\ud83d"}', "holds half of a surrogate pair"),
        (b'{"id":2,"state":"\\ude00\\ud83d"}', "holds half of a surrogate pair"),
        (b'{"id":2,"\\ud83d":1}', "holds half of a surrogate pair"),
        (b'{"id":2,"state":"a\\u0000b"}', "holds a NUL character"),
        (b'{"id":2,"a\\u0000b":1}', "holds a NUL character"),
        (b'{"id":2,"state":"open","status":"closed"}', "is there twice, as state and as status"),
        (b'{"id":2,"status":null,"state":"open"}', "is there twice, as state and as status"),
        (b'{"id":2,"":1}', "names a field that no column can have the name of"),
        (b'{"id":2,"_load_id":1}', "names a field that no column can have the name of"),
        (b'{"id":2,"v":' + b"[" * 70 + b"]" * 70 + b"}", "is nested deeper than"),
        (b'{"id":2,"v":' + b"9" * 5000 + b"}", "holds a number beyond those that a double can hold"),
        (b'{"id":2,' + b",".join(b'"n%d":1' % n for n in range(2000)) + b"}", "would bring the table over 200 columns"),
        (b"[2]", "is not a JSON object"),
    ],
)
def test_what_means_nothing_costs_its_row(read: Read, row: bytes, reason: str) -> None:
    table = contract(column("state", pa.string(), "status"))
    accepted, (refusal,) = land(
        table, read(table, [b'{"id":1,"state":"\\ud83d\\ude00"}', row, b'{"id":3,"status":"x"}'])
    )
    assert [(each["id"], each["state"]) for each in accepted] == [(1, "😀"), (3, "x")]
    assert refusal.row == 1
    assert refusal.reason.startswith(reason)


@pytest.mark.parametrize("read", [lines, document, api])
def test_bytes_that_are_no_text_cost_their_row(read: Read) -> None:
    table = contract(column("state", pa.string()))
    for bad in (b"\xff", b"\xed\xa0\xbd", b"M\xfcller"):
        accepted, refusals = land(table, read(table, [b'{"id":1}', b'{"id":2,"state":"%s"}' % bad, b'{"id":3}']))
        assert [row["id"] for row in accepted] == [1, 3]
        assert [(each.row, each.reason) for each in refusals] == [(1, "holds text that is not UTF-8")]


@pytest.mark.parametrize("read", [lines, stream])
@pytest.mark.parametrize("row", [b'{"id":2} {"id":3}', b'{"id":2}{"id":3}', b'{"id":2', b"[" * 20_000, b"{'id':2}"])
def test_what_is_no_json_costs_its_line(read: Read, row: bytes) -> None:
    accepted, (refusal,) = land(contract(), read(contract(), [b'{"id":1}', row, b'{"id":4}']))
    assert [each["id"] for each in accepted] == [1, 4]
    assert refusal.row == 1


def test_a_byte_order_mark_is_no_character_wherever_files_were_put_together() -> None:
    mark = b"\xef\xbb\xbf"
    accepted, refusals = land(contract(), lines(contract(), [mark + b'{"id":1}', mark + b'{"id":2}']))
    assert ([row["id"] for row in accepted], refusals) == ([1, 2], [])
    assert land(contract(), stream(contract(), [mark + b'{"id":1}']))[0] == [{"id": 1}]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (b'[{"id":1}] [{"id":2}]', ""),
        (b'[{"id":1}]]', ""),
        (b'[{"id":1}', ""),
        (b'{"data":[{"id":1}],"data":[{"id":2}]}', "data"),
        (b'{"data":[{"id":1}], "more":', "data"),
        (b'{"data":[{"id":1}]} {}', "data"),
        (b'{"data":[{"id":1}]', "data"),
        (b'{"a":{"data":[{"id":1}]}', "a.data"),
    ],
)
def test_what_stands_around_the_rows_of_a_document_is_read_too(text: bytes, path: str) -> None:
    with pytest.raises(Exception, match="the file is not JSON"):
        list(json_rows.read_document(io.BytesIO(text), Json(path), contract(), Limits(), "here"))


# -- the quarantine, and back ------------------------------------------------------------------------------------------


def test_a_refused_row_keeps_its_digits_in_the_quarantine_and_on_its_way_back() -> None:
    text = b'{"id":18446744073709551615,"amount":123456789012345678.91,"more":{"x":[0.10,1e2]}}'
    _, (refusal,) = land(contract(), stream(contract(), [text]))
    kept = json_text(refusal.payload)
    assert kept == '{"id": 18446744073709551615, "amount": 123456789012345678.91, "more": {"x": [0.10, 100]}}'
    assert {name: text_of(value) for name, value in decode(kept).items()} == {
        "id": "18446744073709551615",
        "amount": "123456789012345678.91",
        "more": '{"x":[0.10,100]}',
    }


def test_a_column_of_doubles_that_no_contract_names_takes_no_number_that_it_would_round() -> None:
    source_batch = stream(
        contract(), [b'{"id":1,"v":0.5}', b'{"id":2,"v":123456789012345678.91}', b'{"id":3,"v":null}']
    )
    assert source_batch.batch["v"].to_pylist() == ["0.5", "123456789012345678.91", None]
    raw = {"v": pa.float64()}
    shaped = shape(contract(), source_batch.batch.schema, "here", raw)
    accepted, _, (refusal,) = conform(contract(), shaped, source_batch, 0)
    assert accepted["v"].to_pylist() == [0.5, None]
    assert (refusal.row, refusal.column) == (1, "v")


# -- new columns -------------------------------------------------------------------------------------------------------


@WAYS
def test_new_columns_have_a_cap_and_rows_come_first_come_first_served(read: Read) -> None:
    table = contract(max_new_columns=3)
    rows = [b'{"id":1,"a":1,"b":1}', b'{"id":2,"c":1,"d":1}', b'{"id":3,"b":2,"c":2}', b'{"id":4,"a":4}']
    accepted, (refusal,) = land(table, read(table, rows))
    assert [row["id"] for row in accepted] == [1, 3, 4]
    assert set(accepted[0]) == {"id", "a", "b", "c"}
    assert refusal.reason == "would bring the table over 3 columns that its contract does not name"
    ignoring = contract(new_columns="ignore", max_new_columns=3)
    assert len(land(ignoring, read(ignoring, rows))[0]) == 4
