"""A flipped bit: whatever a format can verify is verified, and nothing of such a file lands."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import zipfile
import zlib
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import orc

from granary.readers.files import Json
from granary.sources.spec import Column
from tests.python.engine.files.conftest import label, table
from tests.python.support.workbooks import workbook

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.python.engine.files.conftest import Zone

COLUMNS = (Column("id", pa.int64(), "Number.", nullable=False), Column("name", pa.string(), "Name."))
ROWS = [{"id": number, "name": f"name {number * 7919 % 10007}"} for number in range(3000)]
TEXT = ("id,name\n" + "".join(f"{row['id']},{row['name']}\n" for row in ROWS)).encode()
SYNC = b"0123456789abcdef"
PEOPLE = {
    "type": "record",
    "name": "person",
    "fields": [{"name": "id", "type": "long"}, {"name": "name", "type": "string"}],
}


def _parquet(**options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out, write_page_checksum=True, **options)
    return out.getvalue()


def _long(number: int) -> bytes:
    """Write an Avro long: zigzag, seven bits a byte."""
    number, out = number << 1 ^ number >> 63, b""
    while number > 0x7F:
        out, number = out + bytes([number & 0x7F | 0x80]), number >> 7
    return out + bytes([number])


def avro(schema: dict[str, Any], raw: dict[str, Any], rows: list[dict[str, Any]], codec: str = "null") -> bytes:
    """Return a container file of one block: rows as written by the schema `raw`, under the name of another one."""
    body = io.BytesIO()
    for row in rows:
        fastavro.schemaless_writer(body, raw, row)  # type: ignore[arg-type]
    pack: dict[str, Callable[[bytes], bytes]] = {
        "null": bytes,
        "bzip2": bz2.compress,
        "xz": lzma.compress,
        "snappy": lambda data: pa.compress(data, "snappy", asbytes=True) + struct.pack(">I", zlib.crc32(data)),
        "deflate": lambda data: zlib.compress(data)[2:-4],
    }
    packed = pack[codec](body.getvalue())
    head = b"Obj\x01" + _long(2)
    for word in (b"avro.schema", json.dumps(schema).encode(), b"avro.codec", codec.encode()):
        head += _long(len(word)) + word
    return head + _long(0) + SYNC + _long(len(rows)) + _long(len(packed)) + packed + SYNC


def _stored(name: str, content: bytes) -> bytes:
    """Return a zip archive in which nothing is packed: only its checksum tells what was changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr(name, content)
    return out.getvalue()


DOCUMENT = json.dumps({"rows": ROWS[:500], "more": ["x" * 1000] * 9000}).encode()
"""The rows come first: what is read for them ends long before the file, and with it its checksum."""

FILES: list[tuple[str, bytes, list[float]]] = [
    ("people.parquet", _parquet(), [0.1, 0.4, 0.7]),
    ("people.parquet", _parquet(compression="none", use_dictionary=False), [0.1, 0.4, 0.7]),
    ("people.parquet", _parquet(data_page_version="2.0", compression="none"), [0.1, 0.4, 0.7]),
    ("people.parquet.gz", gzip.compress(_parquet(), 0), [0.1, 0.5, 0.99999]),
    ("people.csv.gz", gzip.compress(TEXT), [0.3, 0.9, 0.99999]),
    ("people.csv.gz", gzip.compress(TEXT, 0), [0.1, 0.5, 0.9]),
    ("people.csv.gz", gzip.compress(TEXT[:20_000], 0) + gzip.compress(TEXT[20_000:], 0), [0.1, 0.9]),
    ("people.csv.bz2", bz2.compress(TEXT), [0.3, 0.9]),
    ("people.zip", _stored("a.csv", TEXT), [0.1, 0.5, 0.9]),
    ("people.zip", _stored("a.json", DOCUMENT), [0.001, 0.9]),
    ("people.json.gz", gzip.compress(DOCUMENT, 0), [0.001, 0.9]),
    ("people.xlsx", workbook(A=[["id", "name"], *([row["id"], row["name"]] for row in ROWS)]), [0.3, 0.6]),
    *(("people.avro", avro(PEOPLE, PEOPLE, ROWS, codec), [0.1, 0.5, 0.9]) for codec in ("bzip2", "xz", "snappy")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "places"), FILES, ids=label)
def test_a_flipped_bit_is_found_and_nothing_of_the_file_lands(
    zone: Zone, name: str, content: bytes, places: list[float]
) -> None:
    contract, options = table(columns=COLUMNS), {"people": Json("rows")} if b'"rows": [' in content else {}
    for number, share in enumerate(places):
        at = int(len(content) * share)
        zone.put(f"people_{number}{name[6:]}", content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
    zone.put(f"people_9{name[6:]}", content)
    result = zone.load(contract, options=options)
    assert result.units_unreadable == tuple(f"people_{number}{name[6:]}" for number in range(len(places)))
    assert result.rows_loaded == (500 if options else 3000)
    assert zone.rows("count(distinct _load_id)", "1") == [(1,)]


def orc_file(values: Any) -> bytes:
    """Return an ORC file with columns id and t."""
    out = io.BytesIO()
    orc.write_table(pa.table({"id": [1, 2], "t": values}), out)
    return out.getvalue()


def test_orc_values_land_or_refuse_their_file(zone: Zone) -> None:
    inside = pa.array([datetime(2261, 1, 1), datetime(1678, 1, 1, 0, 0, 0, 1)], pa.timestamp("us"))  # noqa: DTZ001
    outside = pa.array([datetime(9999, 12, 31), datetime(2017, 1, 1)], pa.timestamp("us"))  # noqa: DTZ001
    zone.put("people_1.orc", orc_file(inside))
    zone.put("people_2.orc", orc_file(outside))
    zone.put("people_3.orc.gz", gzip.compress(orc_file(inside[::-1])))
    result = zone.load(table(columns=COLUMNS[:1]))
    times = inside.to_pylist()
    assert zone.rows("id, t") == [(1, times[0]), (2, times[1]), (1, times[1]), (2, times[0])]
    assert result.units_unreadable == ("people_2.orc",)
    words = "column 't' has a time before 1678 or after 2261, which cannot be read from ORC: ask the source for Parquet"
    [(row, *_, reason, _)] = zone.refused()
    assert (row, reason) == (0, f"{words}, or for dates without a time")
    assert [(one.unit, one.reason) for one in result.not_loaded] == [("people_2.orc", reason)]


def test_an_orc_file_that_breaks_its_reader_is_damaged(zone: Zone) -> None:
    reader = zone.folder / "stripes.py"
    reader.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    zone.patch.setattr("granary.readers.files.columnar.SCRIPT", reader)
    zone.put("people.orc", orc_file(pa.array([1, 2])))
    assert zone.load(table(columns=COLUMNS[:1])).units_unreadable == ("people.orc",)
    assert "damaged or not orc" in zone.refused()[0][3]


ZSTD = b"\x28\xb5\x2f\xfd\x24"
"""A frame of one segment with a checksum: the lower half of XXH64, which for nothing at all is 99E9D851 (hex)."""


def test_the_checksum_of_a_zstd_frame_is_compared(zone: Zone) -> None:
    nothing, sum_of_nothing = ZSTD + b"\x00" + b"\x01\x00\x00", bytes.fromhex("99e9d851")
    row = b"id,name\n1,Ada\n"
    plain = b"\x28\xb5\x2f\xfd\x20" + bytes([len(row)]) + (len(row) << 3 | 1).to_bytes(3, "little") + row
    zone.put("people_1.csv.zst", plain + nothing + sum_of_nothing)
    zone.put("people_2.csv.zst", plain + nothing + b"\x99\xe9\xd8\x50")
    result = zone.load(table(columns=COLUMNS))
    assert (zone.rows("id, name"), result.units_unreadable) == ([(1, "Ada")], ("people_2.csv.zst",))


@pytest.mark.parametrize("codec", ["null", "deflate", "bzip2", "xz", "snappy"])
def test_an_avro_block_has_no_more_and_no_fewer_records_than_it_says(zone: Zone, codec: str) -> None:
    content = avro(PEOPLE, PEOPLE, ROWS[:3], codec)
    says = content.index(SYNC) + 16
    zone.put("people_1.avro", content)
    zone.put("people_2.avro", content[:says] + _long(2) + content[says + 1 :])
    zone.put("people_3.avro", content[:says] + _long(4) + content[says + 1 :])
    result = zone.load(table(columns=COLUMNS))
    assert (result.rows_loaded, result.units_unreadable) == (3, ("people_2.avro", "people_3.avro"))


def test_avro_values_at_the_ends_of_their_types(zone: Zone) -> None:
    kinds: dict[str, tuple[dict[str, Any], list[Any], list[Any]]] = {
        "ms": ({"type": "long", "logicalType": "timestamp-millis"}, [253_402_300_799_999, 0, 0], [
            datetime(9999, 12, 31, 23, 59, 59, 999000, timezone.utc), datetime(1970, 1, 1, tzinfo=timezone.utc)]),
        "us": ({"type": "long", "logicalType": "local-timestamp-micros"},
            [-62_135_596_800_000_000, 1, 253_402_300_800_000_000],
            [datetime(1, 1, 1), datetime(1970, 1, 1, 0, 0, 0, 1)]),  # noqa: DTZ001
        "day": ({"type": "int", "logicalType": "date"}, [2_932_896, -719_162, 0], [date(9999, 12, 31), date(1, 1, 1)]),
        "price": ({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2},
            [(9999).to_bytes(2, "big"), (-1).to_bytes(1, "big", signed=True), b"\x00"],
            [Decimal("99.99"), Decimal("-0.01")]),
        "took": ({"type": "fixed", "name": "fx", "size": 12, "logicalType": "duration"},
            [struct.pack("<3I", 14, 3, 1500), bytes(12), bytes(12)], ["P14M3DT1.5S", "PT0S"]),
        "opens": ({"type": "long", "logicalType": "time-micros"},
            [3_661_000_001, 0, 0], ["01:01:01.000001", "00:00:00.000000"]),
        "key": ({"type": "string", "logicalType": "uuid"}, ["6ba7b810-9dad-11d1-80b4-00c04fd430c8", "", ""],
            ["6ba7b810-9dad-11d1-80b4-00c04fd430c8", ""]),
    }  # fmt: skip
    fields = [{"name": "id", "type": "long"}, *({"name": name, "type": kind} for name, (kind, _, _) in kinds.items())]
    bare = [field | {"type": {k: v for k, v in field["type"].items() if k != "logicalType"}} for field in fields[1:]]  # type: ignore[union-attr]
    rows = [{"id": at} | {name: values[at] for name, (_, values, _) in kinds.items()} for at in range(3)]
    record = {"type": "record", "name": "person"}
    zone.put("people.avro", avro(record | {"fields": fields}, record | {"fields": [fields[0], *bare]}, rows))
    result = zone.load(table(columns=COLUMNS[:1]))
    assert zone.rows(", ".join(kinds)) == list(zip(*(expected for *_, expected in kinds.values()), strict=True))
    assert [(row, column) for row, _, column, _, _ in zone.refused()] == [(3, "us")]
    assert result.rows_quarantined == 1


def test_an_avro_decimal_of_more_digits_than_its_schema_says_keeps_them_or_is_refused(zone: Zone) -> None:
    kind = {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}
    record = {"type": "record", "name": "person"}
    fields = [{"name": "id", "type": "long"}, {"name": "price", "type": kind}]
    bare = [fields[0], {"name": "price", "type": "bytes"}]
    rows = [{"id": 1, "price": b"\x64"}, {"id": 2, "price": (1_234_567).to_bytes(3, "big")}]
    zone.put("people.avro", avro(record | {"fields": fields}, record | {"fields": bare}, rows))
    zone.load(table(columns=(COLUMNS[0], Column("price", pa.decimal128(4, 2), "Dollars."))))
    assert zone.rows("id, price") == [(1, Decimal("1.00"))]
    assert "12345.67" in zone.refused()[0][4]


def test_an_avro_list_that_holds_no_json_refuses_its_row(zone: Zone) -> None:
    schema = {"type": "record", "name": "person", "fields": [
        {"name": "id", "type": "long"}, {"name": "points", "type": {"type": "array", "items": "double"}},
    ]}  # fmt: skip
    rows = [{"id": 1, "points": [1.5]}, {"id": 2, "points": [float("nan")]}, {"id": 3, "points": []}]
    zone.put("people.avro", avro(schema, schema, rows))
    zone.load(table(columns=COLUMNS[:1]))
    assert zone.rows("id, points") == [(1, "[1.5]"), (3, "[]")]
    assert [(row, column) for row, _, column, _, _ in zone.refused()] == [(2, "points")]
