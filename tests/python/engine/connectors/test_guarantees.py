"""Rows and the state that follows them are committed together, whatever the tap does meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.readers.connectors.process import GUARD
from granary.readers.connectors.run import Position
from granary.sources.spec import Column
from granary.sources.units import UnreachableError
from granary.warehouse.errors import GranaryError
from tests.python.engine.connectors.conftest import AT, NAME, SCHEMA, message, record, schema, state, things

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.python.engine.connectors.conftest import Tap

Rows = list[tuple[object, ...]]
WATERMARK = "select value::jsonb -> 'state' -> 'bookmarks' ->> 'things' from ops.watermarks where source = 'shelf'"


def on_shelf(*numbers: int, at: str = "2026-01-01") -> list[dict[str, Any]]:
    return [{"id": number, "name": f"thing {number}", "at": at} for number in numbers]


def test_tap_goes_on_from_its_state(tap: Tap, rows: Callable[..., Rows]) -> None:
    table = things(NAME, AT)
    tap.shelf([*on_shelf(1, 2), *on_shelf(3, at="2026-01-02")], cursor="at")
    assert tap.load(table).rows_loaded == 3
    assert rows(WATERMARK) == [("2026-01-02",)]
    tap.shelf([*on_shelf(1, 2), *on_shelf(3, at="2026-01-02"), *on_shelf(4, at="2026-01-03")], cursor="at")
    again = tap.load(table)
    assert (again.rows_read, again.rows_loaded) == (2, 2)  # the row at the bookmark comes again, and is the same row
    assert rows("select id from raw_shelf.things order by 1") == [(1,), (2,), (3,), (4,)]
    assert rows("select distinct _load_id from raw_shelf.things where id < 4") == [(1,)]
    assert rows(WATERMARK) == [("2026-01-03",)]


def test_parts_of_a_run_are_committed_with_their_states(tap: Tap, rows: Callable[..., Rows]) -> None:
    tap.options = {"rows": 2}
    tap.script(SCHEMA, *(line for number in range(1, 6) for line in (record(id=number, name="a"), state(number))))
    done = tap.load()
    assert (done.rows_read, done.units, len(done.load_ids)) == (5, 3, 3)
    ledger = rows(
        "select rows_loaded, watermark_after::jsonb -> 'state' -> 'bookmarks' ->> 'things' from ops.load_audit"
    )
    assert ledger == [(2, "2"), (2, "4"), (1, "5")]


def test_what_follows_the_last_state_of_a_broken_run_has_not_landed(tap: Tap, there: Callable[[], Rows]) -> None:
    tap.options = {"rows": 2}
    first = [record(id=1, name="a"), record(id=2, name="b"), state(2)]
    tap.script(SCHEMA, *first, record(id=3, name="c"), "!exit 3")
    with pytest.raises(UnreachableError, match="exit code 3"):
        tap.load()
    assert there() == [(1, "a"), (2, "b")]
    tap.script(SCHEMA, record(id=2, name="b"), record(id=3, name="c"), state(3))
    assert tap.load().rows_read == 2
    assert there() == [(1, "a"), (2, "b"), (3, "c")]


def test_state_that_moved_meanwhile_ends_the_run_that_rests(tap: Tap, rows: Callable[..., Rows]) -> None:
    """Another loader has been there between two parts: what rests is not from where the warehouse is."""
    reader = tap.reader({})
    tap.shelf(on_shelf(1))
    tap.options = {"rows": 1}
    tap.script(SCHEMA, record(id=1, name="a"), state(1), record(id=2, name="b"), state(2))
    reader = tap.reader({})
    table = things()
    list(reader.read(table, reader.units(table, None)[0], None))
    first, resting = reader._runs["things"], reader.position(table)
    assert reader.has_more(table)
    reader.units(table, resting)
    assert reader._runs["things"] is first
    reader.units(table, json.dumps({"state": "of another", "version": None}))
    assert reader._runs["things"] is not first
    assert first.process.process.poll() == -signal.SIGKILL
    reader._runs["things"].close()


def test_bookmarks_out_of_order_are_the_taps_affair(tap: Tap, rows: Callable[..., Rows]) -> None:
    tap.options = {"rows": 1}
    tap.script(SCHEMA, record(id=9, name="late"), state("9"), record(id=1, name="early"), state("1"))
    tap.load()
    assert rows(WATERMARK) == [("1",)]
    assert rows("select count(*) from raw_shelf.things") == [(2,)]


def test_table_without_a_key_is_replaced_whole_or_refused(tap: Tap, there: Callable[[], Rows]) -> None:
    with pytest.raises(GranaryError, match="appends without a key"):
        tap.load(things(disposition="append", key=()))
    whole = things(disposition="replace_unit", key=())
    tap.script(SCHEMA, record(id=1, name="a"), record(id=1, name="a"))
    assert tap.load(whole).rows_loaded == 2
    assert tap.load(whole).status == "unchanged"
    tap.script(SCHEMA, record(id=1, name="a"), record(id=2, name="b"))
    assert tap.load(whole).rows_deleted == 2
    assert there() == [(1, "a"), (2, "b")]


def test_replaced_table_loses_what_the_tap_has_no_more(tap: Tap, there: Callable[[], Rows]) -> None:
    table = things(disposition="replace")
    tap.shelf(on_shelf(1, 2, 3))
    tap.load(table)
    tap.shelf(on_shelf(2, 3, 4))
    assert tap.load(table).rows_deleted == 1
    assert there() == [(number, f"thing {number}") for number in (2, 3, 4)]
    tap.script(SCHEMA, record(id=2, name="thing 2"), "!exit 1")
    with pytest.raises(UnreachableError):
        tap.load(table)
    assert len(there()) == 3


def test_new_version_takes_the_place_of_the_old_one(tap: Tap, there: Callable[[], Rows]) -> None:
    tap.options = {"rows": 1}

    def version(number: int, *rows: int, closed: bool = True) -> list[str]:
        written = [message("RECORD", stream="things", record={"id": one, "name": "a"}, version=number) for one in rows]
        lines = [line for one in written for line in (one, state(number))]
        return [SCHEMA, *lines, *([message("ACTIVATE_VERSION", stream="things", version=number)] if closed else [])]

    tap.script(*version(1, 1, 2, 3))
    assert len(tap.load().load_ids) > 1
    tap.script(*version(1, 4))
    tap.load()
    tap.script(*version(2, 2, 3, 5, closed=False))
    with pytest.raises(UnreachableError, match="declared that one complete"):
        tap.load()
    assert [one for one, _ in there()] == [1, 2, 3, 4]
    tap.script(*version(2, 2, 3, 5))
    done = tap.load()
    assert (done.rows_deleted, len(done.load_ids)) == (2, 1)
    assert [one for one, _ in there()] == [2, 3, 5]
    tap.script(*version(3))
    with pytest.raises(GranaryError, match="floor"):
        tap.load()


def test_full_refresh_reads_from_the_beginning_in_one_piece(tap: Tap, rows: Callable[..., Rows]) -> None:
    table = things(NAME, AT)
    tap.options = {"rows": 1}
    tap.shelf(on_shelf(1, 2, 3), cursor="at", every=1)
    tap.load(table)
    done = tap.load(table, full_refresh=True)
    assert (done.rows_read, len(done.load_ids)) == (3, 1)
    assert rows(WATERMARK) == [("2026-01-01",)]
    assert tap.load(table, dry_run=True).rows_read == 3


def test_hung_tap_is_ended_with_what_it_started(tap: Tap) -> None:
    tap.options = {"silence": 0.5}
    tap.script(SCHEMA, record(id=1, name="a"), "!hang")
    with pytest.raises(UnreachableError, match=r"said nothing for 0\.5 s"):
        tap.load()
    process = tap.readers[-1]._runs["things"].process
    process._listener.join(20)  # it ends when nobody holds the tap's standard error any more
    assert not process._listener.is_alive()


def test_tap_ends_with_its_loader() -> None:
    command = [sys.executable, "-I", "-S", str(GUARD), "/bin/sh", "-c", "sleep 600 & echo begun; wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as guard:
        assert guard.stdin is not None
        assert guard.stdout is not None
        assert guard.stdout.readline() == b"begun\n"
        guard.stdin.close()  # as the loader's end does
        assert guard.stdout.read() == b""  # nobody holds it any more
        assert guard.wait() == -signal.SIGKILL


@pytest.mark.parametrize("watermark", ["17", "2026-01-01", '{"kafka:things[0]": "3"}'])
def test_watermark_of_another_reader_is_refused_in_words(watermark: str) -> None:
    with pytest.raises(GranaryError, match="no state of a tap"):
        Position.load(watermark, "things")


def test_cursor_says_how_new_the_data_are(tap: Tap, rows: Callable[..., Rows]) -> None:
    at = Column("at", pa.timestamp("us", tz="UTC"), "When.", nullable=False)
    tap.script(schema(id="integer", at="string"), record(id=1, at="2026-01-01T00:00:00Z"), state("x"))
    tap.load(things(at, cursor="at"))
    tap.load(things(at, cursor="at"))
    assert rows("select distinct data_at::text from ops.load_audit") == [("2026-01-01 00:00:00+00",)]
    assert rows(WATERMARK) == [("x",)]
