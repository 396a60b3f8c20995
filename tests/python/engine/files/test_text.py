"""Where records end, whatever the blocks are; what a text's dialect is; how values of a document are found."""

from __future__ import annotations

import csv
import gzip
import io
import json
import threading
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from granary.readers.files import Csv, Excel, Json, JsonLines, Limits, Parquet, Xml
from granary.readers.files import json_rows as json_reader
from granary.readers.files.delimited import read
from granary.readers.files.dialect import detect
from granary.readers.files.formats import by_name, stem
from granary.readers.files.records import Quoting, records
from granary.readers.files.sniff import sniff
from granary.readers.files.text import encoding_of
from granary.sources.spec import Column
from granary.sources.units import UnreadableError
from granary.warehouse.json_text import decode
from granary.warehouse.prefetch import Prefetch
from tests.python.engine.files.conftest import table
from tests.python.support.workbooks import archive, workbook

if TYPE_CHECKING:
    from collections.abc import Iterator

PAIR = table(columns=(Column("a", pa.string(), "a"), Column("b", pa.string(), "b")))
CELL = st.text(st.sampled_from('x",\n é'), max_size=6)
RFC = Quoting(b",", b'"', b"")


def _blocks(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=20), st.integers(1, 40))
def test_every_row_that_is_written_is_read(rows: list[tuple[str, str]], size: int) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    data = out.getvalue().encode()
    runs = list(records(_blocks(data, size), RFC, 10_000, ""))
    assert b"".join(run for run, _ in runs) == data
    assert [line for _, line in runs] == [
        1 + data[: sum(len(r) for r, _ in runs[:i])].count(b"\n") for i in range(len(runs))
    ]
    parts = [b"a,b\n" + data[:size], data[size:]]
    options = Csv(delimiter=",", quote='"', escape="", encoding="utf-8", header=True)
    for stream in (io.BytesIO(b"".join(parts)),):
        found = [
            row for source_batch in read(stream, options, PAIR, Limits(), "") for row in source_batch.batch.to_pylist()
        ]
    assert [(row["a"] or "", row["b"] or "") for row in found] == rows


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from('x",\n\r;\\é\0'), max_size=60), st.sampled_from([b"", b"\\"]))
def test_whatever_comes_each_record_is_a_row_or_is_refused(text: str, escape: bytes) -> None:
    data = text.encode() + b"\n"
    options = Csv(delimiter=",", quote='"', escape=escape.decode(), encoding="utf-8", header=False)
    spans = list(Quoting(b",", b'"', escape).split(data))
    if b"".join(data[a:b] for a, b in spans) != data:
        with pytest.raises(UnreadableError):
            list(read(io.BytesIO(data), options, PAIR, Limits(), ""))
        return
    source_batches = list(read(io.BytesIO(data), options, PAIR, Limits(), ""))
    assert sum(source_batch.rows for source_batch in source_batches) == sum(
        bool(data[a:b].strip(b"\r\n")) for a, b in spans
    )


@given(st.binary(max_size=60).map(lambda data: data.replace(b"\x00", b",") + b"\n"), st.integers(1, 20))
def test_no_byte_is_lost_between_blocks(data: bytes, size: int) -> None:
    for quoting in (RFC, Quoting(b";", b"'", b"\\"), Quoting(b"\t", b"", b"")):
        try:
            runs = list(records(_blocks(data, size), quoting, 1000, ""))
        except UnreadableError:
            continue  # a quoted value that is not closed
        assert b"".join(run for run, _ in runs) == data
        assert all(b"".join(run[a:b] for a, b in quoting.split(run)) == run for run, _ in runs)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(JSON, st.integers(1, 9))
def test_values_of_a_document_are_found_whatever_the_blocks(value: Any, size: int) -> None:
    text = json.dumps({"skip": value, "rows": [value, 12, {"deep": value}]}).encode()
    before = json_reader.BLOCK_BYTES
    json_reader.BLOCK_BYTES = size
    try:
        cursor = json_reader._Cursor(io.BytesIO(text), 10_000, "")
        cursor.blocks = _blocks(text, size)
        assert list(cursor.rows(["rows"])) == decode(json.dumps([value, 12, {"deep": value}]))
    finally:
        json_reader.BLOCK_BYTES = before


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"id;name;price\n1;x;1,5\n2;y;2,5\n", Csv(";", '"', "", "utf-8", True)),
        (b"id\tname\n1\tx, y\n2\tz\n", Csv("\t", '"', "", "utf-8", True)),
        (b"1|x|2017-01-01\n2|y|2017-01-02\n", Csv("|", '"', "", "utf-8", False)),
        (b"id,name\n1,'a, b'\n2,'c'\n", Csv(",", "'", "", "utf-8", True)),
        (b'id,name\n1,"x \\" y"\n', Csv(",", '"', "\\", "utf-8", True)),
        (b"name\nx\ny\n", Csv(",", '"', "", "utf-8", True)),
        ("id,n\xe4me\n1,\xfc\n".encode("cp1252"), Csv(",", '"', "", "cp1252", True)),
        ("id,näme\n1,ü\n".encode("utf-16"), Csv(",", '"', "", "utf-16-le", True)),
        ("id,näme\n1,ü\n".encode("utf-8-sig"), Csv(",", '"', "", "utf-8", True)),
    ],
)
def test_dialect(head: bytes, expected: Csv) -> None:
    assert detect(head, Csv()) == expected


def test_what_the_contract_knows_decides() -> None:
    names = {"id", "name", "a;b"}
    assert detect(b"1,Paris\n2,Oslo\n", Csv(), {"from", "to"}).header is False
    assert detect(b"From,To\nRome,Oslo\n", Csv(), {"from", "to"}).header is True
    assert detect(b"id;name,x\n1;a,b\n", Csv(), names).delimiter == ";"


def test_a_broken_byte_does_not_change_the_encoding() -> None:
    assert encoding_of("ä,ö,ü".encode() + b"\xff") == "utf-8"
    assert encoding_of(b"caf\xe9") == "cp1252"
    assert encoding_of("日本語".encode()[:-1]) == "utf-8"


def test_names_of_files() -> None:
    assert by_name("a/b.tar.CSV.GZ") == (Csv(), "gzip")
    assert by_name("x.xlsx") == (Excel(), None)
    assert by_name("x.zip") == (None, "zip")
    assert by_name("x") == (None, None)
    assert [stem(name) for name in ("a/2017-01-02.csv.gz", "2017-01-02.parquet")] == ["2017-01-02"] * 2


def test_ahead_passes_everything_on_and_ends_its_thread() -> None:
    assert list(Prefetch(iter(range(100)))) == list(range(100))
    ended = []

    def source() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            ended.append(True)

    taken = Prefetch(source())
    assert next(taken) == 0
    taken.close()
    assert ended == [True]

    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("in the thread")

    with pytest.raises(ValueError, match="in the thread"):
        list(Prefetch(broken()))


def test_a_stage_that_feeds_another_is_closed_after_it_and_both_threads_end() -> None:
    ended = []

    def numbers() -> Iterator[int]:
        try:
            yield from count()
        finally:
            ended.append("numbers")

    first = Prefetch(numbers())
    second = Prefetch(number * number for number in first)
    assert [next(second), next(second), next(second)] == [0, 1, 4]
    second.close()
    first.close()
    assert ended == ["numbers"]
    with pytest.raises(StopIteration):
        next(first)
    assert not [each for each in threading.enumerate() if each.name == "granary-ahead"]


def _table(content: bytes | str, name: str, folder: Path) -> tuple[str, Any, dict[str, Any]]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = sniff(str(path))
    return found.format, found.options, found.sample.to_pydict()


def test_sniff(tmp_path: Path) -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"id": [1]}), out)
    semicolon = Csv(delimiter=";", quote='"', escape="", encoding="cp1252", header=True)
    people = "id;näme\n1;Zoë\n".encode("cp1252")
    assert _table(people, "a.csv", tmp_path) == ("csv", semicolon, {"id": ["1"], "näme": ["Zoë"]})
    assert _table(gzip.compress(people), "a.gz", tmp_path)[:2] == ("csv", semicolon)
    assert _table(archive(**{"a.csv": people}), "a.zip", tmp_path)[:2] == ("csv", semicolon)
    assert _table("1,x\n2,y\n", "b.csv", tmp_path)[2] == {"column_1": ["1", "2"], "column_2": ["x", "y"]}
    assert _table('{"id":1}\n{"id":2}\n', "c.json", tmp_path) == ("jsonl", JsonLines(), {"id": [1, 2]})
    assert _table('{"n":1,"rows":[{"id":1}]}', "d.json", tmp_path) == ("json", Json(path="rows"), {"id": [1]})
    assert _table('[{"id":1}]', "e.json", tmp_path) == ("json", Json(), {"id": [1]})
    assert _table(out.getvalue(), "f.dat", tmp_path) == ("parquet", Parquet(), {"id": [1]})
    assert _table("<r><p id='1'/><p id='2'/></r>", "g.xml", tmp_path) == ("xml", Xml(row="p"), {"id": ["1", "2"]})
    assert _table(workbook(A=[["id"], [1]]), "h.xlsx", tmp_path) == ("excel", Excel(), {"id": ["1"]})


def test_what_sniff_finds_is_source_code(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;name\n1;x\n")
    options = sniff(f"file://{tmp_path}/a.csv").options
    assert repr(options) == "Csv(delimiter=';', quote='\"', escape='', encoding='utf-8', header=True)"
    assert eval(repr(options)) == options


def test_sniff_reads_no_more_than_it_should(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,name\n" + "1,x\n" * 50_000)
    assert sniff(str(tmp_path / "a.csv"), limit=100).sample.num_rows == 100


def test_the_guide_shows_a_source_that_works() -> None:
    guide = (Path(__file__).parents[4] / "docs" / "engine" / "sources" / "files.md").read_text()
    names: dict[str, Any] = {}
    exec(guide.split("```python\n")[1].split("```")[0], names)
    source = names["SOURCE"]
    reader = source.open_reader(dict.fromkeys(source.settings, "s3://bucket/prefix"))
    assert reader.options == {"people": Csv(delimiter=";", dates=("%d.%m.%Y",))}
    assert reader.store.place == "s3://bucket/prefix"
