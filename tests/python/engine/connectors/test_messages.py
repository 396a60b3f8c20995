"""What a tap prints, line by line: records, schemas, batches, and what is no message."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from granary.load.contract import ContractBrokenError
from granary.readers.connectors import schema as schemas
from granary.readers.connectors.messages import Heads
from granary.readers.connectors.process import secrets_in
from granary.sources.spec import Column
from granary.sources.units import UnreachableError
from tests.python.engine.connectors.conftest import NAME, SCHEMA, message, record, schema, state, things

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.python.engine.connectors.conftest import Tap

Rows = list[tuple[object, ...]]


@pytest.mark.parametrize(
    ("line", "cut", "version"),
    [
        (b'{"type":"RECORD","stream":"a","record":{"x":1}}', b'{"x":1}', None),
        (b'{"type": "RECORD", "stream": "a", "record": {"x": {"y": 1}}, "version": 7}', b'{"x": {"y": 1}}', 7),
        (b'{"type":"RECORD","stream":"a","record":{"version":3}}', b'{"version":3}', None),
        (
            b'{"type":"RECORD","stream":"a","record":{"x":"}, \\"version\\": 1"},"time_extracted":"2026"}',
            b'{"x":"}, \\"version\\": 1"}',
            None,
        ),
    ],
)
def test_record_is_cut_out_as_it_was_written(line: bytes, cut: bytes, version: int | None) -> None:
    found = Heads().record(line)
    assert found is not None
    assert (found[0], found[1].text, found[1].version) == ("a", cut, version)
    assert json.loads(cut) == json.loads(line)["record"]


def test_messages_in_another_order_are_records_too(tap: Tap, there: Callable[[], Rows]) -> None:
    odd = '{"stream": "things", "record": {"id": 2, "name": "b"}, "type": "RECORD"}'
    tap.script(SCHEMA, record(id=1, name="a"), odd, record(id=3, name="c"), state(3))
    tap.load()
    assert there() == [(1, "a"), (2, "b"), (3, "c")]


def test_garbage_is_kept_in_quarantine_and_the_rest_lands(
    tap: Tap, rows: Callable[..., Rows], there: Callable[[], Rows]
) -> None:
    tap.script(
        SCHEMA, "Loading...", record(id=1, name="a"), '{"type": "SURPRISE"}', "[1]", '{"type": "RECORD"', state(1)
    )
    assert tap.load(things(max_refused=0.9)).rows_quarantined == 4
    assert there() == [(1, "a")]
    kept = rows("select payload ->> 'line', reason from ops.quarantine order by row_number")
    assert [line for line, _ in kept] == ["Loading...", '{"type": "SURPRISE"}', "[1]", '{"type": "RECORD"']
    assert str(kept[0][1]).startswith("is not JSON")
    assert "no message of Singer" in str(kept[1][1])


def test_tap_that_prints_only_garbage_fails(tap: Tap) -> None:
    tap.script("Traceback (most recent call last):", "oh no")
    with pytest.raises(Exception, match="2 of 2 rows break the contract"):
        tap.load()


def test_nested_values_are_json(tap: Tap, rows: Callable[..., Rows]) -> None:
    parts = Column("parts", pa.string(), "Its parts.")
    parts_too = schema(id="integer", parts="object")
    tap.script(parts_too, record(id=1, parts={"a": [1, {"b": None}]}), record(id=2, parts=["x"]), state(1))
    tap.load(things(parts))
    assert rows("select parts::jsonb #>> '{a,0}', parts::jsonb ->> 0 from raw_shelf.things order by id") == [
        ("1", None),
        (None, "x"),
    ]


def test_schema_that_changes_in_mid_stream(tap: Tap, rows: Callable[..., Rows]) -> None:
    tap.options = {"rows": 1}
    wider = schema(id="integer", name="string", colour="string")
    tap.script(SCHEMA, record(id=1, name="a"), state(1), wider, record(id=2, name="b", colour="red"), state(2))
    done = tap.load()
    assert [(one.column, one.change) for one in done.changes] == [("colour", "added")]
    assert rows("select id, colour from raw_shelf.things order by id") == [(1, None), (2, "red")]
    gone = schema(id="integer", colour="string")
    tap.script(gone, record(id=3, colour="blue"), state(3))
    with pytest.raises(ContractBrokenError, match="name is missing"):
        tap.load()
    retyped = schema(id="string", name="string")
    tap.script(retyped, record(id="4", name="d"), state(4))
    with pytest.raises(ContractBrokenError, match="id is retyped: int64 was agreed, string is announced"):
        tap.load()
    assert rows("select count(*) from raw_shelf.things") == [(2,)]


def test_other_streams_are_left_out(tap: Tap, there: Callable[[], Rows]) -> None:
    other = message("RECORD", stream="parents", record={"id": 9})
    tap.script(message("SCHEMA", stream="parents", schema={}), other, SCHEMA, record(id=1, name="a"), other, state(1))
    assert tap.load().rows_read == 1
    assert there() == [(1, "a")]


@pytest.mark.parametrize("packed", ["gzip", "none", "parquet"])
def test_batches(tap: Tap, there: Callable[[], Rows], tmp_path: Path, packed: str) -> None:
    found = [{"id": number, "name": f"thing {number}"} for number in range(3)]
    path = tmp_path / "batch"
    encoding = {"format": "jsonl", "compression": packed}
    if packed == "parquet":
        pq.write_table(pa.Table.from_pylist(found), path)
        encoding = {"format": "parquet", "compression": "none"}
    else:
        data = b"".join(json.dumps(one).encode() + b"\n" for one in found)
        path.write_bytes(gzip.compress(data) if packed == "gzip" else data)
    batch = message("BATCH", stream="things", encoding=encoding, manifest=[path.as_uri()])
    tap.script(SCHEMA, record(id=9, name="before"), batch, state(3))
    tap.load()
    assert there() == [*((number, f"thing {number}") for number in range(3)), (9, "before")]


@pytest.mark.parametrize(
    ("what", "why"),
    [("s3://elsewhere/file", "not on this machine"), ("file:///nowhere/file", "cannot be read: No such file")],
)
def test_batch_that_cannot_be_read(tap: Tap, what: str, why: str) -> None:
    tap.script(SCHEMA, message("BATCH", stream="things", encoding={"format": "jsonl"}, manifest=[what]))
    with pytest.raises(UnreachableError, match=why):
        tap.load()


def test_log_has_no_secrets_and_errors_have_no_words_of_the_tap(tap: Tap) -> None:
    tap.config, tap.settings_of_source = {"password": "tops/ecret", "deep": [{"api_key": "abc"}]}, ("GRANARY_SHELF",)
    tap.patch.setenv("GRANARY_SHELF", "from-settings")
    tap.script("!say tops/ecret tops%2Fecret abc from-settings", "!say KeyError: Miller", "!exit 1")
    with pytest.raises(UnreachableError) as caught:
        tap.load()
    log = (tap.settings.home / "logs" / "connector-tap-shelf.log").read_text()
    assert "… … … …\n" in log
    assert (tap.settings.home / "logs" / "connector-tap-shelf.log").stat().st_mode & 0o077 == 0
    assert "(KeyError)" in str(caught.value)
    assert "Miller" not in str(caught.value)
    assert secrets_in({"primary_keys": ["id"], "token": "t"}) == ["t"]


def test_types_of_json_schema() -> None:
    stamp = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}
    assert schemas.arrow(stamp) == pa.timestamp("us", tz="UTC")
    assert schemas.arrow({"type": ["null", "integer"]}) == pa.int64()
    assert schemas.arrow({"type": ["integer", "string"]}) == pa.string()
    assert schemas.arrow({"type": "object"}) == pa.string()
    assert schemas.check(things(NAME), {}, "") == []
    assert schemas.check(things(NAME), {"properties": {"id": {}}}, "") == ["name"]
