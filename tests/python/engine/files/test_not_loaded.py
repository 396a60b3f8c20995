"""What a load does not take is reported and kept: files of no table, files that wait, the same content twice."""

from __future__ import annotations

import bz2
import gzip
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from granary.cli import output
from granary.load.api import load_table
from granary.load.withdrawal import withdraw
from granary.quarantine import replay as quarantine
from granary.readers.files import FileReader
from granary.sources.spec import Source
from granary.warehouse import server
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from tests.python.engine.files.conftest import bucket_files, remote_files, table
from tests.python.engine.files.test_places import ADA, BO, CY, HEADER
from tests.python.support.workbooks import archive

if TYPE_CHECKING:
    from granary.sources.units import NotLoaded
    from tests.python.engine.files.conftest import Store, Zone

TAKEN_BY_NONE = "no table of the source takes it"
MERGED = replace(table(key=("id",)), disposition="merge")


def told(left: tuple[NotLoaded, ...]) -> list[tuple[str, str]]:
    return [(one.unit, one.outcome) for one in left]


def source(zone: Zone, **tables: str) -> Source:
    """Return a source of several tables by the patterns of their files."""
    contracts = tuple(replace(table(pattern), name=name) for name, pattern in tables.items())
    reader = FileReader(str(zone.folder))
    return Source(zone.name, "Files.", "tests", "files", (), lambda _: reader, contracts)


def test_a_file_that_no_table_takes_is_told_at_each_load_and_kept(zone: Zone) -> None:
    zone.put("flights.csv", HEADER + ADA)
    zone.put("flights_2014-01.csv", HEADER + BO)
    zone.put("planes.csv", HEADER + CY)
    zone.put("2014/flights.csv", HEADER + CY)
    zone.put(".DS_Store", "x")
    zone.put("_SUCCESS", "")
    both = source(zone, flights="flights.csv", planes="planes.csv")
    zone.patch.setattr("granary.load.api.SOURCES", {zone.name: both})
    expected = [("2014/flights.csv", "passed over"), ("flights_2014-01.csv", "passed over")]
    for _ in range(2):
        assert told(load_table(zone.settings, zone.name, "flights").not_loaded) == expected
        assert told(load_table(zone.settings, zone.name, "planes").not_loaded) == expected
    kept = "select unit, table_name, outcome, reason, first_seen_at < last_seen_at from ops.files_not_loaded"
    assert zone.query(f"{kept} where source = $1 order by unit", zone.name) == [
        (unit, "", outcome, TAKEN_BY_NONE, True) for unit, outcome in expected
    ]


def test_a_place_that_holds_everything_is_looked_through_in_part(zone: Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("granary.readers.files.store.LOOKED_INTO", 3)
    monkeypatch.setattr("granary.readers.files.reader.MOST_LEFT", 2)
    zone.put("flights.csv", HEADER + ADA)
    for name in ("a/1.csv", "a/deep/2.csv", "b/3.csv", "c/4.csv", ".cache/5.csv"):
        zone.put(name, HEADER)
    (zone.folder / "a" / "again").symlink_to(zone.folder)
    reader = FileReader(str(zone.folder))
    assert sorted(reader.store.names()) == ["a/1.csv", "b/3.csv", "flights.csv"]
    monkeypatch.setattr("granary.readers.files.store.LOOKED_INTO", 99)
    left = reader.not_loaded([table("flights.csv")])
    assert [one.unit for one in left] == ["a/1.csv", "b/3.csv", str(zone.folder)]
    assert left[-1].reason == "over 2 files are left out; the others are not named"


def test_files_of_another_source_in_the_same_place_are_not_told(zone: Zone) -> None:
    zone.put("flights.csv", HEADER + ADA)
    zone.put("planes.csv", HEADER + BO)
    zone.put("ships.csv", HEADER + CY)
    other = replace(source(zone, planes="planes.csv"), name=f"{zone.name}_other")
    mine = source(zone, flights="flights.csv")

    def broken(_: Any) -> Any:
        raise RuntimeError

    worse = replace(mine, name=f"{zone.name}_broken", open_reader=broken)
    zone.patch.setattr("granary.load.api.SOURCES", {each.name: each for each in (mine, other, worse)})
    assert told(load_table(zone.settings, zone.name, "flights").not_loaded) == [("ships.csv", "passed over")]


@pytest.mark.parametrize("kind", ["s3", "sftp"])
def test_a_server_is_looked_through_too(zone: Zone, store: Store, kind: str) -> None:
    files = {"sub/people_1.csv": HEADER + ADA, "sub/persons_2.csv": HEADER + BO, "people_3.csv": HEADER + CY}
    if kind == "s3":
        place = {"at": store.s3(f"landing/{zone.name}"), "credentials": store.s3_credentials}
        for name, text in files.items():
            bucket_files(store).pipe_file(f"landing/{zone.name}/{name}", text.encode())
    else:
        place = {"at": store.sftp(zone.name), "credentials": store.sftp_credentials}
        remote_files(store).makedirs(f"/{zone.name}/sub", exist_ok=True)
        for name, text in files.items():
            remote_files(store).pipe_file(f"/{zone.name}/{name}", text.encode())
    result = zone.load(table("sub/people_*.csv"), **place)
    assert result.units_loaded == ("sub/people_1.csv",)
    assert told(result.not_loaded) == [("people_3.csv", "passed over"), ("sub/persons_2.csv", "passed over")]


def test_a_folder_of_a_server_that_is_missing_is_no_empty_one(zone: Zone, store: Store) -> None:
    with pytest.raises(GranaryError, match="the landing zone is missing"):
        zone.load(at=store.sftp(f"{zone.name}/nowhere"), credentials=store.sftp_credentials)
    with pytest.raises(GranaryError, match="the landing zone is missing"):
        zone.load(at=store.s3(f"{zone.name}-nowhere"), credentials=store.s3_credentials)


def test_files_that_wait_say_for_what(zone: Zone) -> None:
    zone.put("people_1.csv", HEADER + ADA, age=5)
    zone.put("people_2.csv.part", HEADER + BO)
    zone.put("_people_3.csv", HEADER + CY)
    left = zone.load(settle=30).not_loaded
    assert [(one.unit, one.outcome, one.reason) for one in left] == [
        ("_people_3.csv", "passed over", "a name that begins with '.' or '_' hides a file"),
        ("people_1.csv", "waiting", "it changed less than 30 s ago"),
        ("people_2.csv.part", "waiting", "its name says that it is still being written"),
    ]
    zone.put("people_4.csv", HEADER + CY)
    zone.put("people_4.csv.done", "")
    result = zone.load(table("people_?.csv"), done=".done")
    assert result.units_loaded == ("people_4.csv",)
    assert ("people_1.csv", "waiting", "its marker people_1.csv.done is missing") in [
        (one.unit, one.outcome, one.reason) for one in result.not_loaded
    ]
    assert "people_4.csv.done" not in [one.unit for one in result.not_loaded]
    assert zone.query(
        "select table_name, outcome from ops.files_not_loaded where source = $1 and unit = 'people_1.csv'", zone.name
    ) == [("people", "waiting")]


def test_the_same_content_under_two_names_lands_once_and_is_told(zone: Zone) -> None:
    zone.put("people_1.csv", HEADER + ADA + BO)
    zone.put("people_2.csv", HEADER + ADA + BO)
    for _ in range(2):
        result = zone.load()
        assert [(one.unit, one.outcome, one.reason) for one in result.not_loaded] == [
            ("people_2.csv", "duplicate", "it has the content of people_1.csv")
        ]
    assert (result.status, zone.rows("id")) == ("unchanged", [(1,), (2,)])
    ledger = "select unit, rows_loaded, error from ops.load_audit where source = $1 and status = 'duplicate'"
    assert zone.query(ledger, zone.name) == [("people_2.csv", 0, "it has the content of people_1.csv")]
    kept = "select unit, outcome, reason from ops.files_not_loaded where source = $1"
    assert zone.query(kept, zone.name) == [("people_2.csv", "duplicate", "it has the content of people_1.csv")]
    zone.put("copies/people_1.csv", HEADER + ADA + BO)
    assert told(zone.load(table("**/people*.csv")).not_loaded) == [
        ("copies/people_1.csv", "duplicate"),
        ("people_2.csv", "duplicate"),
    ]


def packed(kind: str, text: str, level: int = 9) -> bytes:
    """Return a packed text; with another level its bytes differ."""
    if kind == "zip":
        return archive(**{f"inner{level}.csv": text.encode()})
    return gzip.compress(text.encode(), level, mtime=level) if kind == "gz" else bz2.compress(text.encode(), level)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("first", "second"),
    [("people_1.csv", "people_1.csv.{}"), ("people_1.csv.{}", "people_2.csv"), ("people_1.csv.{}", "people_2.csv.{}")],
)
@pytest.mark.parametrize("kind", ["gz", "bz2", "zip"])
def test_content_is_known_whether_it_is_packed_or_not(
    zone: Zone, kind: str, first: str, second: str, at_once: bool
) -> None:
    names = first.format(kind), second.format(kind)
    text = HEADER + ADA + BO
    for level, name in enumerate(names, 1):
        zone.put(name, text if name.endswith(".csv") else packed(kind, text, level))
        result = zone.load() if level == 2 or not at_once else None
    for _ in range(2):
        assert result
        assert [(one.unit, one.outcome, one.reason) for one in result.not_loaded] == [
            (names[1], "duplicate", f"it has the content of {names[0]}")
        ]
        result = zone.load()
    assert (result.status, zone.rows("id")) == ("unchanged", [(1,), (2,)])
    result = load_table(zone.settings, zone.name, "people", accepted=[names[1]])
    assert (result.rows_loaded, result.not_loaded, zone.load().not_loaded) == (2, (), ())
    assert len(zone.rows("id")) == 4


def test_a_packed_copy_is_loaded_once_the_other_file_holds_something_else(zone: Zone) -> None:
    zone.put("people_1.csv", HEADER + ADA)
    zone.put("people_1.csv.gz", packed("gz", HEADER + ADA))
    zone.put("people_2.csv.gz", packed("gz", HEADER + ADA))
    assert told(zone.load().not_loaded) == [("people_1.csv.gz", "duplicate"), ("people_2.csv.gz", "duplicate")]
    zone.put("people_1.csv", HEADER + BO)
    result = zone.load()
    assert result.units_loaded == ("people_1.csv", "people_1.csv.gz")
    assert told(result.not_loaded) == [("people_2.csv.gz", "duplicate")]
    zone.put("people_1.csv.gz", packed("gz", HEADER + ADA, 1))  # packed anew, it takes the place of its own rows
    assert zone.load().units_loaded == ("people_1.csv.gz",)
    assert zone.rows("id", "id") == [(1,), (2,)]


def test_archives_of_several_files_are_known_by_what_is_in_them(zone: Zone) -> None:
    one, two = (HEADER + ADA).encode(), (HEADER + BO).encode()
    zone.put("people_1.zip", archive(**{"a.csv": one, "b.csv": two}))
    zone.put("people_2.zip", archive(**{"c.csv": one, "d.csv": two}))
    zone.put("people_3.zip", archive(**{"a.csv": two, "b.csv": one}))
    assert told(zone.load().not_loaded) == [("people_2.zip", "duplicate")]
    assert zone.rows("id") == [(1,), (2,), (2,), (1,)]


def test_a_ledger_of_before_goes_on_and_nothing_is_read_again(zone: Zone) -> None:
    zone.put("people_1.csv.gz", packed("gz", HEADER + ADA))
    zone.load()
    with connect(zone.settings) as connection:
        execute(connection, "alter table ops.load_audit drop column unpacked")
        execute(connection, "delete from ops.migrations")  # as made before they were numbered
        connection.commit()
    server.prepare(zone.settings)
    zone.put("people_1.csv.gz", packed("gz", HEADER + ADA))  # touched
    assert (zone.load().status, zone.load().not_loaded, zone.rows("id")) == ("unchanged", (), [(1,)])
    zone.put("people_2.csv.gz", packed("gz", HEADER + ADA))
    assert told(zone.load().not_loaded) == [("people_2.csv.gz", "duplicate")]


def test_a_copy_is_loaded_once_the_other_file_holds_something_else(zone: Zone) -> None:
    zone.put("people_1.csv", HEADER + ADA)
    zone.put("people_2.csv", HEADER + ADA)
    zone.load()
    zone.put("people_1.csv", HEADER + BO)
    result = zone.load()
    assert (result.units_loaded, told(result.not_loaded)) == (("people_1.csv", "people_2.csv"), [])
    assert zone.rows("id", "id") == [(1,), (2,)]
    zone.put("people_2.csv", HEADER + BO)  # corrected to what the other one holds: its own rows stay
    assert told(zone.load().not_loaded) == [("people_2.csv", "duplicate")]
    assert zone.rows("id", "id") == [(1,), (2,)]
    zone.put("people_2.csv", HEADER + ADA)
    assert (zone.load().status, zone.load().not_loaded) == ("unchanged", ())


def test_a_copy_of_a_file_that_turns_out_damaged_counts_for_itself(zone: Zone) -> None:
    zone.put("people_1.csv", HEADER + ADA)
    zone.put("people_2.csv", HEADER + ADA)
    zone.load()
    zone.put("people_1.csv", HEADER + '2,"Bo')
    result = zone.load()
    assert told(result.not_loaded) == [("people_1.csv", "unreadable"), ("people_2.csv", "duplicate")]
    assert zone.rows("id") == [(1,)]


def test_a_copy_can_be_accepted_and_stays_so(zone: Zone) -> None:
    zone.put("people_1.csv", HEADER + ADA)
    zone.put("people_2.csv", HEADER + ADA)
    zone.load()
    with pytest.raises(GranaryError, match=r"the source has no unit 'people_9\.csv'"):
        load_table(zone.settings, zone.name, "people", accepted=["people_9.csv"])
    result = load_table(zone.settings, zone.name, "people", accepted=["people_2.csv"])
    assert (result.units_loaded, result.not_loaded) == (("people_2.csv",), ())
    assert zone.load().not_loaded == ()
    refreshed = load_table(zone.settings, zone.name, "people", full_refresh=True)
    assert (refreshed.rows_loaded, refreshed.not_loaded) == (2, ())
    zone.put("people_3.csv", HEADER + ADA)
    assert told(load_table(zone.settings, zone.name, "people", full_refresh=True).not_loaded) == [
        ("people_3.csv", "duplicate")
    ]
    assert len(zone.rows("id")) == 2


def test_a_contract_may_take_copies_and_a_key_needs_no_care(zone: Zone) -> None:
    zone.put("people_1.csv", HEADER + ADA)
    zone.put("people_2.csv", HEADER + ADA)
    assert zone.load(table(copies="load")).rows_loaded == 2
    zone.patch.setattr(zone, "name", f"{zone.name}m")
    result = zone.load(MERGED)
    assert (len(result.units_loaded), result.not_loaded, zone.rows("id")) == (2, (), [(1,)])


def test_files_without_rows_are_copies_of_nothing(zone: Zone) -> None:
    zone.put("people_1.csv", HEADER)
    zone.put("people_2.csv", HEADER)
    result = zone.load()
    assert (result.units_loaded, result.not_loaded) == (("people_1.csv", "people_2.csv"), ())
    zone.put("people_3.csv", HEADER)
    assert zone.load().units_loaded == ("people_3.csv",)


def test_a_unit_that_is_gone_is_withdrawn_with_its_rows(zone: Zone) -> None:
    gone = zone.put("people_1.csv", HEADER + ADA + "x,y,,1\n")
    zone.put("people_2.csv", HEADER + BO)
    first = zone.load()
    with pytest.raises(GranaryError, match=r"the source still has people_1\.csv"):
        withdraw(zone.settings, zone.name, "people", ["people_1.csv"])
    gone.unlink()
    with pytest.raises(GranaryError, match=r"no load of a unit 'people_9\.csv'"):
        withdraw(zone.settings, zone.name, "people", ["people_1.csv", "people_9.csv"])
    assert len(zone.rows("id")) == 2  # all or nothing
    [done] = withdraw(zone.settings, zone.name, "people", ["people_1.csv"])
    assert (done.rows_deleted, zone.rows("id")) == (1, [(2,)])
    ledger = "select load_id, status, rows_deleted, superseded_by from ops.load_audit where source = $1 and unit = $2"
    assert zone.query(f"{ledger} order by load_id", zone.name, "people_1.csv") == [
        (first.load_ids[0], "loaded", 0, done.load_id),
        (done.load_id, "withdrawn", 1, None),
    ]
    assert zone.query("select status from ops.quarantine where source = $1", zone.name) == [("superseded",)]
    assert zone.load().status == "unchanged"
    with pytest.raises(GranaryError, match="no load of a unit"):
        withdraw(zone.settings, zone.name, "people", ["people_1.csv"])
    zone.put("people_1.csv", HEADER + ADA)
    assert zone.load().units_loaded == ("people_1.csv",)


def test_rows_that_are_merged_by_key_are_no_units_to_withdraw(zone: Zone) -> None:
    gone = zone.put("people_1.csv", HEADER + ADA)
    zone.load(MERGED)
    gone.unlink()
    with pytest.raises(GranaryError, match="none is of one unit alone"):
        withdraw(zone.settings, zone.name, "people", ["people_1.csv"])


def test_a_merged_unit_waits_for_a_failed_one_before_it(zone: Zone) -> None:
    zone.put("people_1.csv", HEADER + ADA)
    zone.put("people_2.csv", "id,name\n1,Bo\n")
    zone.put("people_3.csv", HEADER + "1,Cy,,1\n")
    result = zone.load(MERGED)
    assert (result.units_loaded, told(result.not_loaded)) == (
        ("people_1.csv",),
        [("people_2.csv", "failed"), ("people_3.csv", "waiting")],
    )
    zone.put("people_2.csv", HEADER + "1,Bo,,1\n")
    assert zone.load(MERGED).units_loaded == ("people_2.csv", "people_3.csv")
    assert zone.rows("id, name") == [(1, "Cy")]


def test_a_replaced_table_keeps_the_keys_of_a_file_that_cannot_be_read(zone: Zone) -> None:
    whole = replace(table(key=("id",)), disposition="replace")
    zone.put("people_1.csv", HEADER + ADA)
    zone.put("people_2.csv", HEADER + BO)
    zone.load(whole)
    zone.put("people_1.csv", HEADER + "1,Eve,,1\n")
    zone.put("people_2.csv", HEADER + '2,"Bo')
    assert zone.load(whole).units_unreadable == ("people_2.csv",)
    assert zone.rows("id, name", "id") == [(1, "Eve"), (2, "Bo")]
    zone.put("people_2.csv", HEADER + BO)
    assert zone.load(whole).status == "unchanged"
    zone.put("people_1.csv", HEADER + CY)  # the other file did not change, and belongs to the whole
    assert zone.load(whole).rows_deleted == 1
    assert zone.rows("id, name", "id") == [(2, "Bo"), (3, "Cy")]
    assert zone.load(whole).status == "unchanged"


def test_the_command_tells_each_reason_once_in_lines(zone: Zone, capsys: pytest.CaptureFixture[str]) -> None:
    zone.put("people_1.csv", HEADER + ADA)
    zone.put("people_2.csv", HEADER + ADA)
    zone.put("people_3.csv.gz", gzip.compress(b"x")[:-4])
    for number in range(12):
        zone.put(f"other_{number:02}.csv", HEADER)
    result = zone.load()
    output.loads([result, replace(result, table="again")])
    lines = capsys.readouterr().out
    assert f"{zone.name}.people: people_3.csv.gz is in quarantine: the file is damaged" in lines
    assert f"{zone.name}.people: people_2.csv was not loaded: it has the content of people_1.csv" in lines
    assert lines.count(f"{zone.name}: other_00.csv is passed over: {TAKEN_BY_NONE}") == 1
    assert f"{zone.name}: 2 more is passed over" in lines
    output.json([result])
    [told_all] = json.loads(capsys.readouterr().out)
    assert len(told_all["not_loaded"]) == 14
    assert told_all["not_loaded"][0]["outcome"] == "unreadable"


def test_what_a_mac_puts_into_an_archive_is_no_member(zone: Zone) -> None:
    members = {"a.csv": (HEADER + ADA).encode(), "__MACOSX/._a.csv": b"x", ".DS_Store": b"x", "README": b"Hello"}
    zone.put("people_1.zip", archive(**members))
    zone.put("people_2.zip", archive(**{"__MACOSX/._a.csv": b"x"}))
    zone.put("people_3.zip", archive())
    result = zone.load()
    assert (result.units_loaded, result.units_unreadable) == (("people_1.zip",), ("people_2.zip", "people_3.zip"))
    assert ("people_1.zip, README", "passed over") in told(result.not_loaded)
    assert zone.rows("id") == [(1,)]


def test_of_a_key_the_last_file_counts_in_whichever_order_they_come(zone: Zone) -> None:
    """A file that comes late, or is corrected, must not undo what a later one says."""
    zone.put("people_9.csv", HEADER + "1,Ada,,1\n2,Bo,,1\n")
    zone.put("people_10.csv", HEADER + "1,Ada Ten,,1\n3,Cy,,1\n")
    zone.load(MERGED)
    before = zone.rows("id, name, _load_id", "id")
    assert [row[:2] for row in before] == [(1, "Ada Ten"), (2, "Bo"), (3, "Cy")]
    zone.put("people_9.csv", HEADER + "1,Eve,,1\n2,Bob,,1\n")
    result = zone.load(MERGED)
    assert (result.units_loaded, result.warnings) == (("people_9.csv",), ())
    counted = "select unit, rows_loaded, superseded_by is null from ops.load_audit where source = $1 order by load_id"
    assert zone.query(counted, zone.name) == [
        ("people_9.csv", 2, False),
        ("people_10.csv", 2, True),  # read again, and as before: no load
        ("people_9.csv", 2, True),
    ]
    after = zone.rows("id, name, _load_id", "id")
    assert [row[:2] for row in after] == [(1, "Ada Ten"), (2, "Bob"), (3, "Cy")]
    assert [row for row in after if row in before] == [before[0], before[2]]  # what did not change keeps its load
    zone.put("people_8.csv", HEADER + "3,Cyrus,,1\n4,Di,,1\n")
    zone.load(MERGED)
    assert zone.rows("id, name", "id") == [(1, "Ada Ten"), (2, "Bob"), (3, "Cy"), (4, "Di")]
    zone.put("people_10.csv", HEADER + "1,Ada Ten,,1\n")
    zone.load(MERGED)
    assert zone.rows("id, name", "id") == [(1, "Ada Ten"), (2, "Bob"), (3, "Cyrus"), (4, "Di")]
    zone.put("people_8.csv", HEADER)
    zone.load(MERGED)
    assert zone.rows("id, name", "id") == [(1, "Ada Ten"), (2, "Bob")]
    assert zone.load(MERGED).status == "unchanged"
    load_table(zone.settings, zone.name, "people", rebuild=True)
    assert zone.rows("id, name", "id") == [(1, "Ada Ten"), (2, "Bob")]


def test_a_late_file_is_told_where_a_later_one_is_gone(zone: Zone) -> None:
    gone = zone.put("people_2.csv", HEADER + "1,Ada Two,,1\n")
    zone.load(MERGED)
    gone.unlink()
    zone.put("people_1.csv", HEADER + ADA)
    [warning] = zone.load(MERGED).warnings
    assert warning == (
        "people_1.csv comes out of order, and files that have rows cannot be read again: people_2.csv;"
        " of a key that both have, the row of people_1.csv stays"
    )
    assert zone.rows("id, name", "id") == [(1, "Ada")]
    zone.put("people_3.csv", HEADER + BO)
    assert zone.load(MERGED).warnings == ()


def test_a_replayed_row_stays_when_its_file_is_read_again(zone: Zone) -> None:
    zone.put("people_2.csv", HEADER + "1,Ada,,1\nx,Bo,,1\n")
    zone.put("people_3.csv", HEADER + CY)
    zone.load(MERGED)
    [entry] = quarantine.entries(zone.settings, tables=[(zone.name, "people")])
    [done] = quarantine.replay(zone.settings, [entry], {"id": "2"})
    assert done.landed == (entry.quarantine_id,)
    zone.put("people_1.csv", HEADER + "1,Eve,,1\n")
    zone.load(MERGED)
    assert zone.rows("id, name", "id") == [(1, "Ada"), (2, "Bo"), (3, "Cy")]
    zone.put("people_2.csv", HEADER + "1,Ada,,1\n")
    zone.load(MERGED)
    assert zone.rows("id, name", "id") == [(1, "Ada"), (3, "Cy")]
