"""Each format and each compression, through the whole seam into Postgres."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc

from granary.readers.files import Csv, Excel, FixedWidth, Json, Xml
from granary.sources.spec import Column
from tests.python.engine.files.conftest import PEOPLE, label, table
from tests.python.support.workbooks import archive, workbook

if TYPE_CHECKING:
    from tests.python.engine.files.conftest import Zone

TEXT = 'id,name,born,score\n1,Ada,1815-12-10,1.5\n2,"Björn ""bear"", jr",,2\n'
ROWS = [(1, "Ada", "1815-12-10", 1.5), (2, 'Björn "bear", jr', None, 2.0)]
OBJECTS = [
    {"id": 1, "name": "Ada", "born": "1815-12-10", "score": 1.5},
    {"id": 2, "name": 'Björn "bear", jr', "born": None, "score": 2},
]
ARROW = pa.table(
    {"id": [1, 2], "name": ["Ada", 'Björn "bear", jr'], "born": [date(1815, 12, 10), None], "score": [1.5, 2.0]}
)
AVRO = {
    "type": "record",
    "name": "person",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": "string"},
        {"name": "born", "type": ["null", {"type": "int", "logicalType": "date"}]},
        {"name": "score", "type": "double"},
    ],
}


def _parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(ARROW, out)
    return out.getvalue()


def _orc() -> bytes:
    out = io.BytesIO()
    orc.write_table(ARROW, out)
    return out.getvalue()


def _avro(codec: str = "null") -> bytes:
    out = io.BytesIO()
    people = [row | {"born": date(1815, 12, 10) if row["born"] else None} for row in OBJECTS]
    fastavro.writer(out, AVRO, people, codec=codec)
    return out.getvalue()


def _zstd(content: bytes) -> bytes:
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as packed:
        packed.write(content)
    return out.getvalue().to_pybytes()


LINES = "".join(json.dumps(row) + "\n" for row in OBJECTS)
SHEET = [["id", "name", "born", "score"], [1, "Ada", None, 1.5], [2, 'Björn "bear", jr', None, 2]]
XML = """<?xml version="1.0" encoding="utf-8"?>
<people xmlns="urn:people"><person id="1"><name>Ada</name><born>1815-12-10</born><score>1.5</score></person>
<person id="2"><name>Björn "bear", jr</name><score> 2 </score></person></people>"""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("people.csv", TEXT.encode()),
        ("people.csv", ("\ufeff" + TEXT).replace("\n", "\r\n").encode()),
        ("people.csv", TEXT.encode("utf-16")),
        ("people.csv", TEXT.encode("cp1252")),
        ("people.csv", TEXT.rstrip("\n").encode()),
        ("people.csv", TEXT.replace("\n", "\r").encode()),
        ("people.txt", TEXT.replace(",", ";").replace("; jr", ", jr").encode()),
        ("people.csv", TEXT.replace("Björn ", "Björn ").encode()),
        ("people.jsonl", LINES.encode()),
        ("people.ndjson", LINES.encode()),
        ("people.json", json.dumps(OBJECTS, indent=2).encode()),
        ("people.parquet", _parquet()),
        ("people.orc", _orc()),
        ("people.avro", _avro()),
        ("people.avro", _avro("deflate")),
        ("people.avro", _avro("bzip2")),
        ("people.avro", _avro("xz")),
        ("people.csv.gz", gzip.compress(TEXT.encode())),
        ("people.csv.gz", gzip.compress(TEXT[:30].encode()) + gzip.compress(TEXT[30:].encode())),
        ("people.csv.bz2", bz2.compress(TEXT.encode())),
        ("people.csv.zst", _zstd(TEXT.encode())),
        ("people.jsonl.zst", _zstd(LINES.encode())),
        ("people.json.gz", gzip.compress(json.dumps(OBJECTS).encode())),
        ("people.parquet.gz", gzip.compress(_parquet())),
        ("people.zip", archive(**{"export/people.csv": TEXT.encode(), "__MACOSX/._people.csv": b"x"})),
        ("people.zip", archive(**{"people.parquet": _parquet()})),
    ],
    ids=label,
)
def test_format(zone: Zone, name: str, content: bytes) -> None:
    zone.put(name, content)
    result = zone.load()
    assert (result.units, result.rows_read, result.rows_loaded) == (1, 2, 2)
    assert zone.rows() == ROWS
    assert zone.load().status == "unchanged"


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("people.json", json.dumps({"page": 1, "data": {"people": OBJECTS}}), Json(path="data.people")),
        ("people.xml", XML, Xml(row="person")),
        ("people.dat", TEXT.replace(",", "^").replace("^ jr", ", jr"), Csv(quote='"')),
        ("people.dat", "A list\n\n1;'Ada';10.12.1815;1,5\n2;'Björn \"bear\", jr';;2,0\n",
         Csv(quote="'", header=False, skip=2, decimal=",", dates=("%d.%m.%Y",))),
        ("people.dat", 'score|name|id|born\n1.5|Ada|1|1815-12-10\n2|Björn "bear", jr|2|\\N\n',
         Csv(quote="", null=("\\N",))),
        ("people.dat", f"#\n{'1':>3}{'Ada':<18}1815-12-10  1.5 x\r\n{'2':>3}{ROWS[1][1]:<18}{'':10}  2.0\n",
         FixedWidth((("id", 3), ("name", 18), ("born", 10), ("score", 5), ("", 2)), skip=1)),
    ],
    ids=label,
)  # fmt: skip
def test_format_with_options(zone: Zone, name: str, content: str, options: Any) -> None:
    zone.put(name, content)
    assert zone.load(options={"people": options}).rows_loaded == 2
    assert zone.rows() == ROWS


def test_workbook(zone: Zone) -> None:
    zone.put(
        "people.xlsx",
        workbook(
            Notes=[["nothing"]],
            People=[
                ["Exported today"],
                ["id", "name", "born", "score", None],
                [1, "Ada", "day:42349", 1.5],
                [],
                [2, 3.0, None, 2],
                ["x", "Eve", None, 1],
            ],
        ),
    )
    result = zone.load(format=Excel(sheet="People", header_row=2))
    assert (result.rows_read, result.rows_loaded) == (3, 2)
    assert zone.rows() == [(1, "Ada", "2015-12-11", 1.5), (2, "3", None, 2.0)]
    assert [(row, column) for row, _, column, _, _ in zone.refused()] == [(3, "id")]


def test_sheets_of_a_pattern_are_read_one_below_the_other(zone: Zone) -> None:
    head = ["id", "name", "born", "score"]
    sheets = {
        "2024-01": [["Exported today"], head, [1, "Ada", None, 1.5], [2, "Bo", None, "<c t='e'><v>#N/A</v></c>"]],
        "2024-02": [[], [None, *head], [None, 3, "Cy", None, 2]],
        "2024-03": [[]],
        "Lists": [["room"], ["blue"]],
    }
    zone.put("people.xlsx", workbook(**sheets))
    month = Column("month", pa.string(), "Sheet.")
    contract = table(columns=(*PEOPLE, month))
    several = Excel(sheet="2024-*", header_row=2, sheet_column="month")
    result = zone.load(replace(contract, new_columns="ignore"), format=several)
    assert (result.rows_read, result.rows_loaded) == (3, 2)
    assert zone.rows("id, name, month") == [(1, "Ada", "2024-01"), (3, "Cy", "2024-02")]
    ((_, line, column, reason, payload),) = zone.refused()
    assert (line, column, reason) == (4, "score", "is #N/A in cell '2024-01'!D4")
    assert json.loads(payload)["month"] == "2024-01"
    for options, sheet, words in (
        (several, {"2024-01": [["title"], [], [1]]}, "the sheet '2024-01' has no header"),
        (several, {"2024-01": [[], ["id", "month"], [1, 2]]}, "the sheet '2024-01' has a column 'month' of its own"),
        (several, {"2024-01": [[]], "2024-02": [[]]}, "no sheet has a value"),
        (several, {"Jan": [head]}, r"the workbook has no sheet '2024-\*', only Jan"),
    ):
        zone.put("people.xlsx", workbook(**sheet))
        assert re.search(words, zone.load(contract, format=options).not_loaded[0].reason), words


def test_members_of_an_archive_are_one_unit(zone: Zone) -> None:
    more = b"name;id\nEve;3\n"
    zone.put("people.zip", archive(**{"b.csv": more, "a.csv": TEXT.encode(), "readme.md": b"#"}))
    columns = (*PEOPLE[:2], *(Column(c.name, c.type, c.description, missing="null") for c in PEOPLE[2:]))
    assert zone.load(table(columns=columns), members="*.csv").units == 1
    assert zone.rows() == [*ROWS, (3, "Eve", None, None)]


def test_a_declared_format_is_for_the_members_that_are_of_it_by_name(zone: Zone) -> None:
    zone.put(
        "people.zip", archive(**{"a.csv": TEXT.replace(",", ";").encode(), "README.md": b"# a;b", "z.json": b"{}"})
    )
    assert zone.load(format=Csv(delimiter=";")).rows_loaded == 2
    assert zone.rows() == [(1, "Ada", *ROWS[0][2:]), (2, 'Björn "bear"; jr', *ROWS[1][2:])]
    zone.put("people.zip", archive(**{"a.dat": TEXT.encode()}))
    assert zone.load(format=Csv()).rows_loaded == 2


def test_nested_and_unknown_json_lands_as_text(zone: Zone) -> None:
    zone.put("people.jsonl", '{"id":1,"tags":["a",{"b":2}],"seen":"2017-01-02"}\n{"id":2,"name":null,"rank":3}\n')
    assert zone.load().rows_loaded == 2
    assert zone.rows("id, tags, seen, rank", "id") == [(1, '["a",{"b":2}]', "2017-01-02", None), (2, None, None, 3)]


def test_aliases_are_found_in_text_and_json(zone: Zone) -> None:
    columns = (Column("id", pa.int64(), "Number.", nullable=False, aliases=("Person ID",)), PEOPLE[1])
    zone.put("people_1.csv", "Person ID,name\n1,Ada\n")
    zone.put("people_2.jsonl", '{"Person ID": 2, "name": "Bo"}\n')
    zone.put("people_3.json", '[{"Person ID": 3, "name": ["Cy"]}]')
    zone.load(table(columns=columns))
    assert zone.rows("id, name, _row") == [(1, "Ada", 1), (2, "Bo", 1), (3, '["Cy"]', 1)]


def test_a_header_without_a_name_gets_its_place(zone: Zone) -> None:
    zone.put("people.csv", ",id,name\n0,1,Ada\n1,2,Bo\n")
    zone.load(table(columns=PEOPLE[:2]))
    assert zone.rows("id, name, column_1") == [(1, "Ada", "0"), (2, "Bo", "1")]


def test_quoted_nothing_is_text_and_unquoted_is_null(zone: Zone) -> None:
    zone.put("people.csv", 'id,name\n1,""\n2,\n')
    zone.load(table(columns=PEOPLE[:2]))
    assert zone.rows("id, name") == [(1, ""), (2, None)]


def test_a_text_without_rows_is_empty_and_one_without_a_header_is_unreadable(zone: Zone) -> None:
    zone.put("people_1.csv", "id,name,born,score\n")
    zone.put("people_2.csv", "")
    zone.put("people_3.jsonl", "")
    result = zone.load()
    assert (result.rows_read, result.units_unreadable) == (0, ("people_2.csv",))


def test_xz_is_no_compression_of_files(zone: Zone) -> None:
    zone.put("people_1.csv", TEXT)
    zone.put("people_2.csv", lzma.compress(TEXT.encode()))
    assert zone.load().units_unreadable == ("people_2.csv",)
    assert zone.rows() == ROWS
