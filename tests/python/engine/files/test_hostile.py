"""Files that are broken or meant to harm: refused with clear words, while the others land."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import socket
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import fastavro
import pyarrow as pa
import pytest

from granary.readers.files import Csv, Excel, Json, Limits, Xml
from granary.readers.files.store import LocalStore
from granary.sources.spec import Column
from granary.sources.units import StillWrittenError
from granary.warehouse.errors import GranaryError
from tests.python.engine.files.conftest import PEOPLE, label, table
from tests.python.support.workbooks import archive, workbook

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.python.engine.files.conftest import Zone

GOOD = "id,name,born,score\n1,Ada,,1\n"
LOW = Limits(ratio_from=100_000, ratio=20, record=50_000, workbook=100_000, members=8, refused=50_000)


def _why(zone: Zone, name: str) -> str:
    [(reason,)] = zone.query("select reason from ops.quarantine where source = $1 and unit = $2", zone.name, name)
    return str(reason)


def _refused(zone: Zone, name: str, content: bytes | str, match: str, **options: object) -> None:
    """Assert that a file is refused whole, and that the one beside it lands."""
    zone.put("people_good.csv", GOOD)
    zone.put(name, content)
    result = zone.load(**options)
    assert result.units_unreadable == (name,)
    assert match in _why(zone, name)
    assert zone.rows("id, name") == [(1, "Ada")]


def test_bad_rows_are_refused_alone_with_their_line(zone: Zone) -> None:
    zone.put(
        "people.csv",
        b'id,name,born,score\n1,"two\nlines",2017-01-01,1\n\n2,few\n3,too,,1,many\n4,\xc3\x28,,1\n5,nul\x00,,1\n'
        b"six,x,,1\n7,\xc3\xa9,2017-02-30,1\n8,ok,2017-02-28,1\n9,last,,1",
    )
    result = zone.load(table(max_refused=0.8))
    assert (result.rows_read, result.rows_loaded, result.rows_quarantined) == (9, 3, 6)
    assert zone.rows("id, name, _row") == [(1, "two\nlines", 1), (8, "ok", 8), (9, "last", 9)]
    assert [(row, line, reason) for row, line, _, reason, _ in zone.refused()][:4] == [
        (2, 5, "has 2 fields, not 4"),
        (3, 6, "has 5 fields, not 4"),
        (4, 7, "is not text: byte 0xc3 is invalid in its encoding"),
        (5, 8, "holds a NUL byte"),
    ]
    assert [(row, column) for row, _, column, _, _ in zone.refused()][4:] == [(6, "id"), (7, "born")]
    assert zone.refused()[1][4] == '{"line": "3,too,,1,many"}'


def test_rows_that_the_contract_refuses_know_their_line(zone: Zone) -> None:
    zone.put("people.csv", "id,name,born,score\n1,a,,1\n2,b,,one\n3,c,,3\n,d,,4\n")
    zone.load()
    assert [(row, line, column) for row, line, column, _, _ in zone.refused()] == [(2, 3, "score"), (4, 5, "id")]
    assert '"score": "one"' in zone.refused()[0][4]


def test_bad_json_lines_are_refused_alone_with_their_line(zone: Zone) -> None:
    deep = "[" * 200_000
    zone.put(
        "people.jsonl", f'{{"id":1}}\n\n{{"id":2\n[3]\n{{"id":"4"}}\n{{"id":NaN}}\n{deep}\n{{"id":7,"name":"x"}}\n'
    )
    result = zone.load(table(max_refused=0.9))
    assert (result.rows_read, result.rows_loaded) == (7, 2)
    assert [(row, line) for row, line, *_ in zone.refused()] == [(2, 3), (3, 4), (4, 5), (5, 6), (6, 7)]


@pytest.mark.parametrize("value", ["null", "[]", "1", '"x"', '{"id":2} null', '{"id":2}{"id":3}', '{"id":2}\r null'])
def test_a_line_that_is_no_object_never_reaches_the_parser_that_crashes_on_it(zone: Zone, value: str) -> None:
    zone.put("people.jsonl", f'{{"id":1}}\n{value}\n')
    result = zone.load(table(max_refused=0.9))
    assert (result.rows_read, result.rows_loaded) == (2, 1)
    assert [(row, line) for row, line, *_ in zone.refused()] == [(2, 2)]
    zone.put("people.jsonl", f"{value}\n")
    assert zone.load(table(max_refused=1.0, floor=0)).rows_loaded == 0


def test_blank_lines_are_no_rows(zone: Zone) -> None:
    zone.put("people.jsonl", "\n\r\n \n")
    assert zone.load().rows_read == 0


def test_an_instant_without_its_zone_is_refused_alone(zone: Zone) -> None:
    columns = (PEOPLE[0], Column("seen", pa.timestamp("us", tz="UTC"), "When."))
    zone.put("people_1.jsonl", '{"id":1,"seen":"2017-01-01T12:00:00-05:00"}\n{"id":2,"seen":"2017-01-01T12:00:00"}\n')
    zone.put("people_2.csv", "id,seen\n3,2017-01-01 12:00:00-05:00\n4,2017-01-01 12:00:00\n")
    zone.load(table(columns=columns))
    assert zone.rows("id, (seen at time zone 'UTC')::text") == [(1, "2017-01-01 17:00:00"), (3, "2017-01-01 17:00:00")]
    assert [(row, column) for row, _, column, _, _ in zone.refused()] == [(2, "seen"), (2, "seen")]


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("people.csv", 'id,name\n1,"never closed\n2,b\n', "a quoted value is not closed"),
        ("people.csv.gz", gzip.compress(GOOD.encode() * 9000)[:-20], "damaged"),
        ("people.csv.gz", GOOD, "the file is not gzip, as its name says"),
        ("people.csv.gz", gzip.compress(gzip.compress(GOOD.encode())), "an archive within the archive"),
        ("people.zip", archive(**{"inner.zip.csv": archive(**{"a.csv": b"x"})}), "an archive within the archive"),
        ("people.zip", archive(**{"../people.csv": GOOD.encode()}), "hostile name"),
        ("people.zip", archive(**{"/etc/people.csv": GOOD.encode()}), "hostile name"),
        ("people.zip", archive(**{"a\\..\\people.csv": GOOD.encode()}), "hostile name"),
        ("people.zip", archive(**{f"{n}.csv": GOOD.encode() for n in range(9)}), "over 8 members"),
        ("people.zip", archive(), "has no member"),
        ("people.zip", b"PK\x03\x04 and nothing else", "damaged"),
        ("people.csv.gz", gzip.compress(b"id,name\n" + b"1,a\n" * 200_000), "as an archive bomb does"),
        ("people.zip", archive(**{"people.csv": b"id,name\n" + b"1,a\n" * 200_000}), "as an archive bomb does"),
        ("people.csv.gz", gzip.compress(b'id,name\n1,"' + b"x" * 90_000), "as an archive bomb does"),
        ("people.csv", "", "the file is empty, without even a header"),
        ("people.jsonl.gz", gzip.compress(b'{"id":"' + b"x" * 90_000), "as an archive bomb does"),
        ("people.csv", "id,name\n1," + "x" * 10_000_000, "has no end"),
        ("people.jsonl", '{"id":1,"name":"' + "x" * 10_000_000, "longer than 50,000 bytes"),
        ("people.json", '[{"id":1,"name":"' + "x" * 10_000_000, "longer than 50,000 bytes"),
        ("people.json", '[{"id":1}, {"id":2}', "the file is not JSON"),
        ("people.json", '{"id":1}{"id":2}', "more than one value"),
        ("people.json", "[" * 100_000, "the file is not JSON"),
        ("people.parquet", b"PAR1 and nothing else", "damaged or not parquet"),
        ("people.orc", b"ORC and nothing else", "damaged or not orc"),
        ("people.avro", b"Obj\x01 and nothing else", "damaged or not avro"),
        ("people.xlsx", b"no workbook", "damaged or not a workbook"),
        ("people.xlsx", workbook(A=[["id"], *[[str(n) * 9] for n in range(5000)]]), "unpacks to over 100,000 bytes"),
        ("people.csv", "id,name,id\n1,a,2\n", "is there twice"),
        ("people.csv", "id,name,_load_id\n1,a,2\n", "is one of the load's own"),
        ("people.csv", f"id,name,{'x' * 64}\n1,a,2\n", "longer than 63 bytes"),
        ("people.csv", "id,name,a\x07b\n1,a,2\n", "unprintable"),
        ("people.csv", ",".join(f"c{n}" for n in range(5000)) + "\n", "over 1,500 columns"),
        ("people.jsonl", "".join(f'{{"k{n}":1}}\n' for n in range(5000)), "over 1,500 columns"),
        ("people.json", "[" + ",".join(f'{{"k{n}":1}}' for n in range(5000)) + "]", "over 1,500 columns"),
        ("people.csv", GOOD + "2\n" * 5_000, "bytes of its rows are refused"),
    ],
    ids=label,
)  # fmt: skip
def test_refused_whole(zone: Zone, name: str, content: bytes | str, match: str) -> None:
    _refused(zone, name, content, match, limits=LOW)


def test_a_workbook_whose_last_cell_is_far_away(zone: Zone) -> None:
    """Held as a dense range it would take 500 GB."""
    small = zipfile.ZipFile(io.BytesIO(workbook(A=[["id", "name"], [1, "x"]])))
    parts = {name: small.read(name).replace(b'r="B2"', b'r="XFD1048576"') for name in small.namelist()}
    _refused(zone, "people.xlsx", archive(**parts), "of memory")
    assert "has no sheet 'B'" in _reason_of(zone, "people.xls", workbook(A=[["id"]]), format=Excel(sheet="B"))


def _reason_of(zone: Zone, name: str, content: bytes, **options: object) -> str:
    zone.put(name, content)
    zone.load(table(name), **options)
    return _why(zone, name)


def test_a_link_or_a_secret_in_an_archive(zone: Zone) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as packed:
        link = zipfile.ZipInfo("people.csv")
        link.external_attr = 0o120777 << 16
        packed.writestr(link, "/etc/passwd")
    _refused(zone, "people.zip", content.getvalue(), "is a link")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ('<!DOCTYPE p [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><p><person id="1">&b;</person></p>', "declares a DTD"),
        ('<!DOCTYPE p SYSTEM "file:///etc/passwd"><p><person id="1"/></p>', "declares a DTD"),
        ("<p><person id='1'></p>", "damaged or not XML"),
        ("<p>" + "<a>" * 200 + "<person/>", "nested over 100 deep"),
        ("<p><person id='1'>" + "x" * 1_000_000 + "</person></p>", "longer than 50,000 bytes"),
    ],
    ids=label,
)
def test_hostile_xml(zone: Zone, content: str, match: str) -> None:
    zone.put("people.xml", content)
    assert zone.load(format=Xml(row="person"), limits=LOW).units_unreadable == ("people.xml",)
    assert match in _why(zone, "people.xml")


def test_an_element_that_comes_twice_refuses_its_row(zone: Zone) -> None:
    zone.put("people.xml", "<p>\n<person id='1'><name>a</name></person>\n<person id='2'><name>b</name><name>c</name>"
             "</person></p>")  # fmt: skip
    zone.load(format=Xml(row="person"))
    assert zone.rows("id, name") == [(1, "a")]
    assert [refusal[:4] for refusal in zone.refused()] == [(2, 3, "name", "has more than one name")]


def test_an_avro_block_that_is_a_bomb(zone: Zone) -> None:
    schema = {
        "type": "record",
        "name": "p",
        "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}],
    }
    out = io.BytesIO()
    fastavro.writer(out, schema, [{"id": 1, "name": "x" * 5_000_000}], codec="deflate")
    _refused(zone, "people.avro", out.getvalue(), "as a bomb does", limits=LOW)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json"])
def test_a_file_with_hundreds_of_new_columns_costs_itself(zone: Zone, suffix: str) -> None:
    zone.put("people_1.csv", "id,name,rank\n1,a,1\n")
    names = [f"n{number}" for number in range(300)]
    row = json.dumps({"id": 2} | dict.fromkeys(names, 1))
    content = {"csv": f"id,{','.join(names)}\n2,{','.join('1' * 300)}\n", "jsonl": row + "\n", "json": f"[{row}]"}
    zone.put(f"people_2.{suffix}", content[suffix])
    columns = tuple(replace(column, missing="null" if column.nullable else "refuse") for column in PEOPLE)
    result = zone.load(table(columns=columns))
    assert zone.rows("id, name") == [(1, "a")]
    assert (len(result.units_unreadable), result.rows_quarantined) in ((1, 0), (0, 1))
    assert "would bring the table over 200 columns that its contract does not name" in zone.refused()[0][3]


def test_a_json_path_that_is_not_there(zone: Zone) -> None:
    zone.put("people.json", '{"a": {"c": 1}}')
    assert zone.load(format=Json(path="a.b")).units_unreadable == ("people.json",)
    assert _why(zone, "people.json") == "the file is not JSON: there is no key 'b'"


def test_a_name_of_a_column_is_only_a_name(zone: Zone) -> None:
    zone.put("people.csv", 'id,name,"x""; drop table ops.load_audit; --"\n1,a,b\n')
    assert zone.load(table(columns=PEOPLE[:2])).rows_loaded == 1
    assert zone.rows('id, "x""; drop table ops.load_audit; --"') == [(1, "b")]


def test_a_name_of_a_file_is_only_a_name(zone: Zone) -> None:
    zone.put("people'; drop table ops.load_audit; --.csv", GOOD)
    assert zone.load().units_loaded == ("people'; drop table ops.load_audit; --.csv",)


def test_links_that_leave_the_landing_zone(zone: Zone, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "people.csv").write_text(GOOD)
    inner = zone.put("archive/people.csv", GOOD)
    (zone.folder / "people.csv").symlink_to(inner)
    assert zone.load().rows_loaded == 1
    (zone.folder / "people_2.csv").symlink_to(outside / "people.csv")
    zone.put("people_3.csv", "id,name,born,score\n3,Cy,,3\n")
    result = zone.load()
    assert (result.units_unreadable, result.units_loaded) == (("people_2.csv",), ("people_3.csv",))
    assert _why(zone, "people_2.csv") == "it is a link that leaves the landing zone"
    (zone.folder / "people_folder").symlink_to(outside)
    assert zone.load(table("people_folder/*.csv")).units_unreadable == ("people_folder",)


def test_a_name_from_elsewhere_stays_in_the_landing_zone(zone: Zone) -> None:
    store = LocalStore(zone.folder)
    with pytest.raises(StillWrittenError, match="the file is gone"):
        store.entry("/etc/passwd")
    (zone.folder / "itself").symlink_to(zone.folder)
    with pytest.raises(StillWrittenError, match="a link that leaves the landing zone"):
        store.entry("itself")


@pytest.mark.parametrize("location", ["../people.csv", "/etc/passwd", "a/../../b", "a\\b"])
def test_a_location_that_leaves_the_landing_zone(zone: Zone, location: str) -> None:
    with pytest.raises(GranaryError, match="leaves the landing zone"):
        zone.load(table(location))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (b"people\n2017 ERROR.csv", "people\\n2017 ERROR.csv"),
        (b"people_\xff\xe9.csv", "people_\\udcff\\udce9.csv"),
        ("people_\u202egpj.csv".encode(), "people_\\u202egpj.csv"),
    ],
)
def test_a_name_of_a_file_that_is_no_text_costs_that_file_alone(zone: Zone, name: bytes, told: str) -> None:
    zone.put("people_good.csv", GOOD)
    (Path(os.fsencode(zone.folder).decode()) / os.fsdecode(name)).write_text(GOOD.replace("Ada", "Eve"))
    result = zone.load()
    assert (result.units_unreadable, zone.rows("id, name")) == ((told,), [(1, "Ada")])
    assert _why(zone, told) == "its name has characters that cannot be printed, or bytes that are no UTF-8"
    assert zone.load().status == "unchanged"


def _pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path, _: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))  # the whole path may be too long for a socket


def _folder(path: Path, _: Path) -> None:
    path.mkdir()
    (path / "part.csv").write_text(GOOD)


def _nowhere(path: Path, _: Path) -> None:
    path.symlink_to(path.with_name("nothing.csv"))


def _circle(path: Path, _: Path) -> None:
    path.symlink_to(path)


def _device(path: Path, _: Path) -> None:
    path.symlink_to("/dev/zero")


def _elsewhere(path: Path, elsewhere: Path) -> None:
    (elsewhere / "secret.csv").write_text(GOOD)
    path.symlink_to(elsewhere / "secret.csv")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_pipe, "it is not a regular file"),
        (_socket, "it is not a regular file"),
        (_folder, "it is a folder with a file's name"),
        (_nowhere, "it is a link that leads nowhere"),
        (_circle, "it is a link that leads to itself"),
        (_device, "it is a link that leaves the landing zone"),
        (_elsewhere, "it is a link that leaves the landing zone"),
    ],
    ids=lambda value: getattr(value, "__name__", "").strip("_"),
)
def test_what_is_no_file_costs_itself_and_lands_once_it_is_one(
    zone: Zone, make: Callable[[Path, Path], None], reason: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    zone.put("people_1.csv", GOOD)
    foreign = zone.folder / "people_2.csv"
    make(foreign, tmp_path_factory.mktemp("elsewhere"))
    zone.put("people_3.csv", "id,name,born,score\n3,Cy,,3\n")
    result = zone.load()
    assert (result.units_loaded, result.units_unreadable) == (("people_1.csv", "people_3.csv"), ("people_2.csv",))
    assert (_why(zone, "people_2.csv"), next(one.reason for one in result.not_loaded)) == (reason, reason)
    assert zone.load().status == "unchanged"
    shutil.rmtree(foreign) if foreign.is_dir() and not foreign.is_symlink() else foreign.unlink()
    zone.put("people_2.csv", "id,name,born,score\n2,Bo,,2\n")
    assert zone.load().units_loaded == ("people_2.csv",)
    assert zone.query("select status from ops.quarantine where source = $1", zone.name) == [("superseded",)]


def test_an_unknown_format(zone: Zone) -> None:
    zone.put("people.dat", GOOD)
    with pytest.raises(GranaryError, match="does not tell its format"):
        zone.load()
    zone.put("people_2.csv", "id,name,born,score\n2,Bo,,2\n")
    result = zone.load()
    assert (result.units_loaded, [one.unit for one in result.failed]) == (("people_2.csv",), ["people.dat"])
    assert zone.load(format="csv").rows_loaded == 1


def test_a_stray_quote_hides_no_row(zone: Zone) -> None:
    zone.put("people.csv", 'id,name\n1,5" pipe\n2,b\n3,"a\nb"\n4,c"d"\n')
    zone.load(table(columns=PEOPLE[:2]))
    assert zone.rows("id, name") == [(1, '5" pipe'), (2, "b"), (3, "a\nb"), (4, 'c"d"')]


def test_values_that_only_text_can_hold(zone: Zone) -> None:
    columns = (Column("id", pa.int64(), "n"), Column("big", pa.decimal128(12, 2), "d"), Column("ok", pa.bool_(), "b"))
    zone.put("people.csv", "id,big,ok\n9223372036854775807,1.25,true\n9223372036854775808,1.255,maybe\n")
    zone.load(table(columns=columns))
    assert zone.rows("id, big::text, ok") == [(9223372036854775807, "1.25", True)]
    assert [refusal[0] for refusal in zone.refused()] == [2]


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="one ASCII character"):
        Csv(delimiter="ab")
    assert repr(Csv(delimiter=";", header=True)) == "Csv(delimiter=';', header=True)"
