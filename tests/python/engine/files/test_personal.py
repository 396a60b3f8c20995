"""No value of a personal column is anywhere but in its place, whatever becomes of its file."""

from __future__ import annotations

import gzip
import io
import json
import traceback
from typing import TYPE_CHECKING, Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc

from granary.readers.files import Csv, Excel, FixedWidth, Xml
from granary.sources.spec import Column
from granary.warehouse.errors import GranaryError
from tests.python.engine.files.conftest import table
from tests.python.support.workbooks import workbook

if TYPE_CHECKING:
    from tests.python.engine.files.conftest import Zone

CANARY = "canary909090909"
NUMBER = 909090909
COLUMNS = (
    Column("id", pa.int64(), "Number.", nullable=False, personal="pseudonym", maximum=1000),
    Column("name", pa.string(), "Name.", personal="identifier", maximum=5),
    Column("born", pa.date32(), "Birthday.", personal="identifier"),
)
NAMES = ["id", "name", "born"]
BAD = (CANARY, CANARY, CANARY)


def csv(*rows: tuple[object, ...]) -> str:
    """Return a file with these rows after a good one."""
    return "\n".join(["id,name,born", "1,Ada,1815-12-10", *(",".join(map(str, row)) for row in rows), ""])


def columnar(write: Any, **values: Any) -> bytes:
    """Return a file that a writer of Arrow writes."""
    out = io.BytesIO()
    write(pa.table(values), out)
    return out.getvalue()


def avro(**fields: str) -> bytes:
    """Return an Avro file of one row of text."""
    out = io.BytesIO()
    schema = {"type": "record", "name": "r", "fields": [{"name": name, "type": "string"} for name in fields]}
    fastavro.writer(out, schema, [fields])
    return out.getvalue()


def lines(*rows: str) -> str:
    """Return JSON Lines."""
    return "\n".join(['{"id": 1, "name": "Ada", "born": "1815-12-10"}', *rows, ""])


PACKED = gzip.compress(csv(BAD).encode())
ROW = {"id": CANARY, "name": CANARY, "born": CANARY}
SHAPED = {"id": [NUMBER, 2], "name": [CANARY, CANARY], "born": [CANARY, CANARY]}
FILES: list[tuple[str, bytes | str, Any]] = [
    ("people.csv", csv(BAD), None),
    ("people.csv", csv((NUMBER, "x", "")), None),
    ("people.csv", csv((2, CANARY, "")), None),
    ("people.csv", csv((2, "x", f"31.02.{CANARY}")), Csv(dates=("%d.%m.%Y",))),
    ("people.csv", csv((CANARY,), (2, CANARY, "", CANARY)), None),
    ("people.csv", csv((2, f'"{CANARY}', "")), None),
    ("people.csv", csv((2, f"{CANARY}\0", "")), None),
    ("people.csv", csv((2, CANARY, "")).encode("utf-16")[:-1], None),
    ("people.csv", b"id,name,born\n1,\xc3\xa4,\n2," + CANARY.encode() + b"\xff,\n", None),
    ("people.csv", f"{CANARY},{CANARY},{CANARY}\n{CANARY},{CANARY},{CANARY}\n", None),
    ("people.csv.gz", PACKED[:-6], None),
    ("people.jsonl", lines(json.dumps(ROW)), None),
    ("people.jsonl", lines(f'{{"id": 2, "name": "{CANARY}"', f'{{"id": {CANARY}}}', f'"{CANARY}"'), None),
    ("people.jsonl", lines(f'{{"id": 2, "name": "{CANARY}", "name": "{CANARY}"}}', f'{{"id": {NUMBER}e400}}'), None),
    ("people.jsonl", lines(f'{{"id": 2, "name": {{"x": "{CANARY}", "x": 1}}, "born": [{NUMBER}]}}'), None),
    ("people.jsonl", lines(f'{{"id": 2, "name": "{CANARY}\\ud800"}}'), None),
    ("people.json", json.dumps([ROW]), None),
    ("people.json", json.dumps([ROW])[:-9], None),
    ("people.json", json.dumps(CANARY), None),
    ("people.xml", f"<a><p><id>{CANARY}</id><name>{CANARY}</name><name>x</name></p></a>", Xml(row="p")),
    ("people.xml", f"<a><p><name>{CANARY}</nam></p></a>", Xml(row="p")),
    ("people.xml", f'<!DOCTYPE a [<!ENTITY e "{CANARY}">]><a><p><name>&e;</name></p></a>', Xml(row="p")),
    ("people.txt", f"1 Ada  1815-12-10\n{CANARY}\n", FixedWidth((("id", 2), ("name", 5), ("born", 10)))),
    ("people.xlsx", workbook(A=[NAMES, [1, "Ada", ""], list(BAD)]), None),
    ("people.xlsx", workbook(A=[NAMES, ["day:60.909090909", CANARY, f'<c t="e"><v>{CANARY}</v></c>']]), Excel()),
    ("people.xlsx", workbook(A=[NAMES, [1, f'<c t="b"><v>{CANARY}</v></c>', ""]]), None),
    ("people.parquet", columnar(pq.write_table, **SHAPED), None),
    ("people.parquet", columnar(pq.write_table, id=[NUMBER], name=[[CANARY]], born=[{"x": CANARY}]), None),
    ("people.parquet", columnar(pq.write_table, **SHAPED)[:-20], None),
    ("people.orc", columnar(orc.write_table, **SHAPED), None),
    ("people.avro", avro(id=CANARY, name=CANARY, born=CANARY), None),
    ("people.avro", avro(id=CANARY, name=CANARY, born=CANARY)[:-5], None),
]  # fmt: skip


@pytest.mark.parametrize("most", [1, 0])
@pytest.mark.parametrize(("name", "content", "options"), FILES, ids=[f"{f[0]}-{n}" for n, f in enumerate(FILES)])
def test_no_message_has_a_value(zone: Zone, name: str, content: bytes | str, options: Any, most: int) -> None:
    zone.put(name, content)
    said = []
    try:
        result = zone.load(table(columns=COLUMNS, max_refused=most), options={"people": options} if options else {})
        said.append(repr(result))
    except GranaryError as error:
        said += traceback.format_exception(error)
    for kept in ("load_audit", "schema_changes", "files_not_loaded"):
        said += [
            str(row) for row in zone.query(f"select kept::text from ops.{kept} as kept where source = $1", zone.name)
        ]
    places = "select concat_ws(' ', unit, column_name, reason, identity) from ops.quarantine where source = $1"
    said += [str(row) for row in zone.query(places, zone.name)]
    known = [text for text in said if CANARY in text or str(NUMBER) in text]
    assert known == []
    assert zone.query("select count(*) from ops.load_audit where source = $1", zone.name) != [(0,)]
