"""A report's title above a table: found out when a source is added, left out by each load from then on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from granary.readers.files.formats import Csv, Excel
from granary.readers.files.sniff import sniff
from granary.readers.files.titles import MOST_ROWS, rows_above
from tests.python.engine.files.conftest import table
from tests.python.support.workbooks import workbook

if TYPE_CHECKING:
    from pathlib import Path

    from tests.python.engine.files.conftest import Zone

TABLE = [
    ["bed", "plant", "grams", "note"],
    ["12", "leek", "40.5", ""],
    ["13", "kale", "38", "late"],
    ["14", "chard", "9", ""],
]


@pytest.mark.parametrize(
    ("above", "expected"),
    [
        ([], 0),
        ([["Harvest"]], 1),
        ([["Harvest", "", "", ""], ["as of", "2025-03-01", "", ""]], 2),
        ([["Harvest"], [], ["made by", "Ann"], []], 4),
        ([["Garden:", "north"], ["Made at:", "2025-03-01", "08:00"]], 2),
        ([["as of", "2025-03-01"]], 0),  # half of the columns have a name: it may be a header
        ([["bed", "plant", "grams"]], 0),
        ([["Harvest"]] * MOST_ROWS, MOST_ROWS),
        ([["Harvest"]] * (MOST_ROWS + 1), 0),
    ],
)
def test_what_is_above_a_header_is_a_title_if_it_is_no_header_itself(above: list[list[str]], expected: int) -> None:
    assert rows_above([*above, *TABLE]) == expected


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [["Harvest"]],
        [["Harvest"], ["of the north"]],
        [["word"], ["leek"], ["kale"]],  # one column
        [["Harvest"], ["12", "leek", "40.5"], ["13", "kale", "38"], ["12", "leek", "9"]],  # nothing below it has names
        [["bed", "plant", "grams"], ["", "", "1"], ["", "", "2"], ["1", "leek", "3"]],
        [["Harvest"], ["bed", "plant", "grams"]],  # a table without rows shows no header
    ],
)
def test_a_table_without_a_title_keeps_its_first_row(rows: list[list[str]]) -> None:
    assert rows_above(rows) == 0


def test_lines_are_counted_as_the_file_has_them(tmp_path: Path) -> None:
    title = '"Harvest of the garden,\r\nin two lines"\r\n\r\nMade by Ann\r\n'
    (tmp_path / "harvest.csv").write_bytes((title + "".join(",".join(row) + "\r\n" for row in TABLE)).encode())
    (tmp_path / "plain.csv").write_bytes(("Harvest\n" + "\n".join(map(";".join, TABLE)) + "\n").encode("utf-16"))
    for name, skip, delimiter in (("harvest", 4, ","), ("plain", 1, ";")):
        seen = sniff(str(tmp_path / f"{name}.csv"))
        assert isinstance(seen.options, Csv)
        assert (seen.options.skip, seen.options.delimiter) == (skip, delimiter)
        assert seen.sample.to_pylist()[0] == {"bed": "12", "plant": "leek", "grams": "40.5", "note": None}
        assert seen.sample.num_rows == 3


def test_a_sheet_below_a_title(tmp_path: Path) -> None:
    place = tmp_path / "harvest.xlsx"
    place.write_bytes(workbook(A=[["Harvest"], ["as of", "2025-03-01"], [], *TABLE]))
    seen = sniff(str(place))
    assert seen.options == Excel(header_row=4)
    assert seen.sample.column_names == TABLE[0]
    assert seen.sample.num_rows == 3


@pytest.mark.parametrize("above", [0, 1, 2, 3, 9])
def test_a_load_finds_the_header_by_its_names_whatever_the_title(zone: Zone, above: int) -> None:
    title = ["People", "as of;2025-03-01", "", "name;Ann;Ben", *["more"] * 5][:above]
    people = ["id;name;born;score", "1;Ada;2001-05-06;1.5", "x;Ben;2002-05-06;2.5", "3;Cleo;2003-05-06;3.5"]
    zone.put("people.csv", "\n".join(title + people))
    zone.load(table(), format=Csv(skip=2))
    assert zone.rows("id, name") == [(1, "Ada"), (3, "Cleo")]
    assert [row[1] for row in zone.refused()] == [above + 3]
    zone.put("people.xlsx", workbook(A=[line.split(";") for line in title + people]))
    zone.load(table("people.xlsx"), format=Excel(header_row=3))
    assert zone.rows("id, name") == [(1, "Ada"), (3, "Cleo")] * 2


def test_where_no_row_has_the_names_the_lines_declared_are_left_out(zone: Zone) -> None:
    zone.put("people.csv", "People\nas of;2025-03-01\n1;Ada;2001-05-06;1.5\n2;Ben;2002-05-06;2.5\n")
    zone.load(table(), format=Csv(skip=2))
    assert zone.rows("id, name") == [(1, "Ada"), (2, "Ben")]
