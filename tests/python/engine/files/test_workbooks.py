"""What a workbook's cells are: errors, formulas without a value, numbers and times of all kinds, and other sheets."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.readers.files import Excel
from granary.readers.files.notation import MAYBE_THOUSANDS
from granary.readers.files.workbook import overlooked
from granary.sources.spec import Column
from tests.python.engine.files.conftest import table
from tests.python.support.workbooks import SERIALS, archive, binary_workbook, old_workbook, open_document, workbook

if TYPE_CHECKING:
    from tests.python.engine.files.conftest import Zone

ID = Column("id", pa.int64(), "Number.", nullable=False)
V = Column("v", pa.string(), "A value.")
HEADER = ["id", "v"]


def load(zone: Zone, name: str, content: bytes, *columns: Column, **options: Any) -> Any:
    """Load a workbook and return what was told of it."""
    zone.put(name, content)
    more = {"new_columns": options.pop("new_columns")} if "new_columns" in options else {}
    return zone.load(table(columns=columns or (ID, V), max_refused=1, **more), **options).changes


def refused(zone: Zone) -> list[Any]:
    """Return the refused rows: place, line, column, reason."""
    return [tuple(row[:4]) for row in zone.refused()]


def test_a_cell_with_an_error_refuses_its_row(zone: Zone) -> None:
    rows = [
        HEADER, [1, "x"], [2, '<c t="e"><v>#DIV/0!</v></c>'], [], [3, '<c t="e"><f>NA()</f><v>#N/A</v></c>'],
        ['<c t="e"><v>#REF!</v></c>', "y"], [5, '<c t="str"><f>""</f><v></v></c>'], [6, "#N/A"],
        [7, "<c><f>SUM(A1:A2)</f></c>"], [8, "<c><f>SUM(A1:A2)</f><v></v></c>"], [9, "<c><f>1+1</f><v>2</v></c>"],
    ]  # fmt: skip
    load(zone, "people.xlsx", workbook(A=rows))
    # "#N/A" as a text is a text, and a formula may have the value ""
    assert zone.rows("id, v") == [(1, "x"), (5, None), (6, "#N/A"), (9, "2")]
    assert refused(zone) == [
        (2, 3, "v", "is #DIV/0! in cell B3"),
        (3, 5, "v", "is #N/A in cell B5"),
        (4, 6, "id", "is #REF! in cell A6"),
        (7, 9, "v", "is a formula that was never computed in cell B9"),
        (8, 10, "v", "is a formula that was never computed in cell B10"),
    ]
    assert zone.refused()[0][4] == '{"v": "#DIV/0!", "id": "2"}'


def test_a_text_with_a_third_decimal_may_be_thousands(zone: Zone) -> None:
    rows = [HEADER, [1, 12.5], [2, "1.000"], [3, "0.500"], [4, 1000]]
    load(zone, "people.xlsx", workbook(A=rows), ID, Column("v", pa.decimal128(18, 2), "A value."))
    assert zone.rows("id, v::text") == [(1, "12.50"), (3, "0.50"), (4, "1000.00")]
    assert refused(zone) == [(2, 3, "v", MAYBE_THOUSANDS)]


def test_an_error_beyond_the_last_value_is_not_overlooked(zone: Zone) -> None:
    error = '<c t="e"><v>#NUM!</v></c>'
    load(zone, "people.xlsx", workbook(A=[HEADER, [1, "x"], [2, "y", None, error], [error]]))
    assert zone.rows("id, v") == [(1, "x")]
    assert refused(zone) == [(2, 3, "column_4", "is #NUM! in cell D3"), (3, 4, "id", "is #NUM! in cell A4")]


def test_an_error_in_a_column_that_nobody_wants_refuses_nothing(zone: Zone) -> None:
    content = workbook(A=[[*HEADER, "note"], [1, "x", '<c t="e"><v>#NAME?</v></c>']])
    load(zone, "people.xlsx", content, new_columns="ignore")
    assert (zone.rows("id, v"), refused(zone)) == ([(1, "x")], [])


def test_an_error_in_the_header_refuses_the_file(zone: Zone) -> None:
    load(zone, "people.xlsx", workbook(A=[["id", '<c t="e"><v>#REF!</v></c>'], [1, "x"]]))
    assert [reason for *_, reason in refused(zone)] == ["the header has #REF!"]


def test_an_error_in_an_old_workbook(zone: Zone) -> None:
    load(zone, "people.xls", old_workbook(), format=Excel(sheet="A"))
    assert zone.rows("id, v") == [(2, None), (3, "7.5")]
    assert refused(zone) == [(1, 2, "v", "is #DIV/0! in cell B2")]


def test_an_error_in_a_binary_workbook(zone: Zone) -> None:
    number = struct.pack("<d", 7.0)
    content = binary_workbook((5, number), (3, b"\x07"), (11, b"\x2a" + bytes(6)), (5, number))
    load(zone, "people.xlsb", content, ID)
    assert zone.rows("id") == [(7,), (7,)]
    assert refused(zone) == [(2, 3, "id", "is #DIV/0! in cell A3"), (3, 4, "id", "is #N/A in cell A4")]


def test_an_error_in_an_open_document(zone: Zone) -> None:
    def row(number: int, cell: str, more: str = "") -> str:
        value = f'<table:table-cell office:value-type="float" office:value="{number}"><text:p>{number}</text:p>'
        return f"<table:table-row{more}>{value}</table:table-cell>{cell}</table:table-row>"

    string = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    error = (
        '<table:table-cell table:formula="of:=1/0" office:value-type="string" office:string-value=""'
        ' calcext:value-type="error"><text:p>#DIV/0!</text:p></table:table-cell>'
    )
    head = f"<table:table-row>{string.format('id')}{string.format('v')}</table:table-row>"
    twice = ' table:number-rows-repeated="2"'
    empty = '<table:table-cell table:formula="of:=[.A1]"/>'
    rows = [head, row(1, string.format("x")), row(2, error, twice), row(3, string.format("#N/A")), row(4, empty)]
    load(zone, "people.ods", open_document(*rows))
    assert zone.rows("id, v") == [(1, "x"), (3, "#N/A")]
    assert refused(zone) == [
        (2, 3, "v", "is #DIV/0! in cell B3"),
        (3, 4, "v", "is #DIV/0! in cell B4"),
        (5, 6, "v", "is a formula that was never computed in cell B6"),
    ]


def test_sheets_that_are_not_read_are_told(zone: Zone) -> None:
    first, second, third = (
        workbook(Jan=[["id"], [1]], Feb=[["id"], [2]], Notes=[["x"], [number]]) for number in range(3)
    )
    changes = load(zone, "people.xlsx", first, ID)
    told = "the sheets 'Feb', 'Notes' are not read: declare which one is, Excel(sheet=…)"
    assert [(change.change, change.detail) for change in changes] == [("ignored", told)]
    assert zone.query("select detail from ops.schema_changes where source = $1", zone.name) == [(told,)]
    assert load(zone, "people_2.xlsx", second, ID, format=Excel(sheet="Feb")) == ()
    assert load(zone, "people_3.xlsx", third, ID, format=Excel(sheet=0)) == ()
    assert zone.rows("id") == [(1,), (2,), (1,)]


@pytest.mark.parametrize(
    ("cell", "kind", "value"),
    [
        ("<c><v>0.05</v></c>", pa.float64(), 0.05),  # shown as 5 %
        ('<c t="b"><v>1</v></c>', pa.bool_(), True),
        ('<c t="b"><v>1</v></c>', pa.int64(), None),
        ("<c><v>1</v></c>", pa.string(), "1"),
        ("007", pa.string(), "007"),  # a number that is kept as text
        ("007", pa.int64(), 7),
        ("1.234,5", pa.float64(), None),
        ("1,234", pa.int64(), None),
        ("<c><v>42349</v></c>", pa.date32(), None),  # a number that nobody said was a day
        ("<c><v>42349</v></c>", pa.timestamp("us"), None),
        ("day:42349", pa.date32(), "2015-12-11"),
        ("day:2958465", pa.date32(), "9999-12-31"),
        ("day:2958466", pa.date32(), None),
        ("<c><v>12345678901234567890</v></c>", pa.decimal128(20, 0), "12345678901234567890"),
        ("<c><v>9007199254740993</v></c>", pa.int64(), 9007199254740993),
        ("<c><v>0.1</v></c>", pa.decimal128(9, 2), "0.10"),
        ("<c><v>0.30000000000000004</v></c>", pa.decimal128(9, 2), None),
        ("31.02.2023", pa.date32(), None),
    ],
)
def test_a_cell_is_a_value_of_its_column_or_its_row_is_refused(
    zone: Zone, cell: str, kind: pa.DataType, value: Any
) -> None:
    load(zone, "people.xlsx", workbook(A=[HEADER, [1, cell], [2, None]]), ID, Column("v", kind, "A value."))
    found = {number: v for number, v in zone.rows("id, v") if number == 1}
    assert found == ({} if value is None else {1: found[1]})
    if value is not None:
        assert found[1] == value if not isinstance(value, str) else str(found[1]) == value
    assert len(refused(zone)) == (value is None)


NO_DAY = "is a serial number that is not a day or time in cell B2"


def of_1904(content: bytes) -> bytes:
    """Return the same workbook with days that count from 1904."""
    with zipfile.ZipFile(io.BytesIO(content)) as plain:
        parts = {name: plain.read(name) for name in plain.namelist()}
    parts["xl/workbook.xml"] = parts["xl/workbook.xml"].replace(b"<sheets>", b'<workbookPr date1904="1"/><sheets>')
    return archive(**parts)


@pytest.mark.parametrize("since", [1900, 1904])
@pytest.mark.parametrize(
    ("serial", "since_1900", "since_1904"),
    [
        ("59", "1900-02-28", "1904-02-29"),
        ("59.5", "1900-02-28 12:00:00", "1904-02-29 12:00:00"),
        ("60", None, "1904-03-01"),  # 29 February 1900, of which there is none
        ("6.0E1", None, "1904-03-01"),
        ("60.5", None, "1904-03-01 12:00:00"),
        ("60.9999999999", None, "1904-03-02 00:00:00"),
        ("61", "1900-03-01", "1904-03-02"),
        ("0.5", "12:00:00", "12:00:00"),
        ("0.9999999999", None, None),  # 24:00
        ("-1", None, None),
        ("-0.25", None, None),
        ("-36500.75", None, None),
    ],
)
def test_a_serial_number_that_is_no_day_refuses_its_row(
    zone: Zone, since: int, serial: str, since_1900: str | None, since_1904: str | None
) -> None:
    value = since_1900 if since == 1900 else since_1904
    book = workbook(A=[HEADER, [1, f"day:{serial}"]])
    load(zone, "people.xlsx", book if since == 1900 else of_1904(book))
    assert zone.rows("v") == ([] if value is None else [(value,)])
    assert [reason for *_, reason in refused(zone)] == ([NO_DAY] if value is None else [])
    if value is None:
        assert float(json.loads(zone.refused()[0][4])["v"]) == float(serial)


def test_a_duration_is_no_day(zone: Zone) -> None:
    cells = [f'<c s="2"><v>{days}</v></c>' for days in ("60", "60.5", "-0.5")]
    load(zone, "people.xlsx", workbook(A=[HEADER, *([at, cell] for at, cell in enumerate(cells, 1))]))
    assert zone.rows("id, v") == [(1, "PT1440H0M0S"), (2, "PT1452H0M0S"), (3, "PT-12H0M0S")]
    assert refused(zone) == []


def test_a_serial_number_that_is_no_day_in_other_workbooks(zone: Zone) -> None:
    load(zone, "people.xls", old_workbook(SERIALS))
    assert zone.rows("id, v") == [(4, "1900-03-01")]
    assert [(row, json.loads(payload)["v"]) for row, *_, payload in zone.refused()] == [
        (1, "60"), (2, "60.5"), (3, "-1"), (5, "60.123456789"), (6, "60"),
    ]  # fmt: skip
    with_serials = [(5, struct.pack("<d", 60.5)), (2, struct.pack("<I", 60 << 2 | 2)), (9, struct.pack("<d", -1.0))]
    cells = overlooked(io.BytesIO(binary_workbook(*with_serials)), "A", 0, serials=True)
    assert {place: cell["value"] for place, cell in cells.items() if isinstance(cell, dict)} == {
        (1, 0): "60.5", (2, 0): "60", (3, 0): "-1",
    }  # fmt: skip


def test_days_count_from_1904_where_the_workbook_says_so(zone: Zone) -> None:
    content = of_1904(workbook(A=[HEADER, [1, "day:42349"]]))
    load(zone, "people.xlsx", content, ID, Column("v", pa.date32(), "A day."))
    assert zone.rows("id, v::text") == [(1, "2019-12-12")]
