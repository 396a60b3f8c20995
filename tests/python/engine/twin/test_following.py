"""The twin is the marts: after every publish, undo, erasure, change of columns, restore and kill; by Postgres' hash."""

from __future__ import annotations

import subprocess
import sys
from threading import Event, Thread
from typing import TYPE_CHECKING

import pyarrow.dataset as ds
import pytest

from granary.twin import catalog, config, follower, ledger, state, sync
from granary.twin.copies import PERSONAL, SHARED
from granary.twin.verify import verify
from granary.warehouse import publishes
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT
from tests.python.support.rides import Rides, node, week

if TYPE_CHECKING:
    from pathlib import Path

    from tests.python.engine.twin.conftest import Sync

NEWEST = """
    select record_count from twin.ducklake_data_file where table_id = (
        select table_id from twin.ducklake_table where table_name = $1 and end_snapshot is null
    ) and end_snapshot is null order by begin_snapshot desc
"""


def same(rides: Rides) -> list[tuple[str, int, str, int]]:
    """Check all that the twin has of publishes that are kept; return copy, publish, mart and rows."""
    found = list(verify(rides.settings, all_publishes=True))
    found += list(verify(rides.settings))
    assert [one for one in found if not one.is_same] == []
    return [(one.copy, one.publish_id, one.mart, one.row_count) for one in found]


def place_of(rides: Rides, name: str) -> Path:
    """Return the folder of a copy."""
    with connect(rides.settings, role="transformer") as connection:
        found = catalog.folder(connection, name)
    assert found is not None
    return found


def riders(folder: Path) -> set[str]:
    """Return whom any file of rentals names, those of earlier publishes included."""
    files = [one for one in folder.rglob("marts/rentals/*.parquet") if "-delete" not in one.name]
    return {rider for file in files for rider in ds.dataset(file).to_table()["rider"].to_pylist()}


def test_each_publish_is_there_by_row_hash_masked_and_not(rides: Rides, follow: Sync) -> None:
    assert follow().anew == "there is none yet"
    week(rides)
    assert sync.is_due(rides.settings)
    done = follow()
    assert (done.publish, done.followed, done.anew, done.refused) == (5, 4, "", {})
    assert not sync.is_due(rides.settings)
    found = same(rides)
    assert [one for one in found if one[2] == "rentals"][:5] == [
        ("twin", 1, "rentals", 3), ("twin", 2, "rentals", 3), ("twin", 3, "rentals", 2), ("twin", 4, "rentals", 3),
        ("twin", 5, "rentals", 3),
    ]  # fmt: skip
    assert {one[2] for one in found if one[0] == "twin_personal"} == {"rentals"}
    assert riders(place_of(rides, "twin")) == {"masked"}
    assert riders(place_of(rides, "twin_personal")) == {"Ada", "Bo", "Cy"}


def test_publishes_that_nobody_followed_are_there_one_by_one(rides: Rides, follow: Sync) -> None:
    week(rides)
    assert follow().followed == 5
    assert len({one[1] for one in same(rides)}) == 5


def test_undo_redo_and_a_publish_after_an_undo(rides: Rides, follow: Sync) -> None:
    week(rides)
    follow()
    publishes.undo(rides.settings, 2)
    assert follow().followed == 1
    assert [one[3] for one in same(rides) if one[2] == "docks"][-1] == 3
    publishes.redo(rides.settings, 1)
    follow()
    same(rides)
    publishes.release(rides.settings)
    rides.run("insert into build.docks values ('Z', '2021-03-01')")
    last = rides.publish()
    follow()
    found = same(rides)
    assert {one[1] for one in found} == {1, 2, 3, 4, last}  # 5 was given up: nobody can show it again
    with connect(rides.settings, role="transformer") as connection:
        labels = catalog.labels(connection, "twin")
    assert [one.event for one in labels] == [1, 2, 3, 4, last]


def test_only_the_days_that_changed_are_written(rides: Rides, follow: Sync) -> None:
    rides.run(
        "insert into build.rentals select 100 + n, 'Di', date '2021-03-01' + n / 10, 1, n from generate_series(0, 99) n"
    )
    rides.publish()
    follow()
    rides.run("update build.rentals set price = price + 1 where business_date in ('2021-03-02', '2021-03-05')")
    rides.publish("2021-03-02", "2021-03-05")
    follow()
    assert rides.rows(NEWEST, "rentals")[0] == (20,)  # two days of ten rows
    same(rides)


def test_a_mart_with_a_key_has_rows_written_and_one_that_stayed_none(rides: Rides, follow: Sync) -> None:
    rides.run(
        "create table build.lines (line integer not null, name text)",
        "insert into build.lines select n, 'line ' || n from generate_series(1, 50) as n",
    )
    rides.marts["lines"] = node("lines", ("line",))
    rides.run("alter table build.lines alter line set not null")
    rides.built(marts=("lines",))
    rides.publish()
    follow()
    before = rides.rows(NEWEST, "stations")
    rides.run("update build.lines set name = 'x' where line in (7, 8, 9)")
    rides.built(marts=("lines",))
    rides.publish()
    follow()
    assert rides.rows(NEWEST, "lines")[0] == (3,)
    assert rides.rows(NEWEST, "stations") == before
    same(rides)


def test_columns_come_and_go_and_a_mart_does(rides: Rides, follow: Sync) -> None:
    follow()
    rides.run("alter table build.docks add column bays integer", "update build.docks set bays = 3 where dock = 'A'")
    rides.publish()
    rides.run("alter table build.stations rename column name to title")
    rides.publish()
    follow()
    same(rides)
    del rides.marts["docks"]
    rides.rows("select ops.drop_history_of_vanished($1)", rides.document())
    rides.built(marts=("rentals",))
    rides.rows("select ops.publish_script($1)", rides.document())
    assert follow().anew == ""
    follow(anew=True)
    assert "docks" not in {one[2] for one in same(rides)}


def test_who_is_forgotten_is_in_no_file_any_more(rides: Rides, follow: Sync) -> None:
    week(rides)
    follow()
    rides.run(
        "delete from publish_history.rentals where rider = 'Ada'",
        "select ops.settle_history('marts', 'rentals')",
        "delete from build.rentals where rider = 'Ada'",
    )
    with connect(rides.settings) as connection:
        query(connection, "insert into ops.erasures (subject, key_mark) values ('hash', 'mark') returning 1")
        connection.commit()
    rides.publish()
    with connect(rides.settings) as connection:
        query(connection, "update ops.erasures set finished_at = now() returning 1")
        connection.commit()
    old = place_of(rides, "twin_personal")
    assert "Ada" in riders(old)
    assert follow().anew == "somebody was forgotten since"
    assert not old.exists()
    assert "Ada" not in riders(place_of(rides, "twin_personal"))
    assert len({one[1] for one in same(rides)}) == 6
    stats = "select count(*) from twin_personal.ducklake_file_column_stats where min_value = 'Ada' or max_value = 'Ada'"
    assert rides.rows(stats) == [(0,)]


def test_masks_and_readers_follow(rides: Rides, follow: Sync) -> None:
    follow()
    rides.marts["stations"]["grants"] = {}
    rides.publish()
    rides.run("revoke select on marts.stations from analyst")
    assert "stations" in follow().anew
    found = {(one[0], one[2]) for one in same(rides)}
    assert ("twin_personal", "stations") in found
    assert ("twin", "stations") not in found
    assert not list(place_of(rides, "twin").rglob("marts/stations"))


def test_what_is_lost_or_of_another_warehouse_is_made_anew(rides: Rides, follow: Sync) -> None:
    follow()
    place = place_of(rides, "twin")
    orphan = place / "marts" / "docks" / "ducklake-of-a-process-that-was-killed.parquet"
    orphan.write_bytes(b"half")
    assert follow().anew == ""
    assert not orphan.exists()
    next(iter(place.rglob("marts/docks/*.parquet"))).unlink()
    assert follow().anew == "its files are not those of its catalogue"
    same(rides)
    elsewhere = place_of(rides, "twin")
    rides.run("update twin.ducklake_metadata set value = '/srv/elsewhere/twin-1/' where key = 'data_path'")
    assert follow().anew == "its files are not those of its catalogue"
    assert not elsewhere.exists()
    rides.run("delete from ops.published_marts where publish_id > 1")
    same(rides)


def test_an_earlier_state_of_the_ledger_is_followed(rides: Rides, follow: Sync) -> None:
    """As after a restore of the database, beside files that stayed."""
    first = rides.state()
    week(rides)
    follow()
    publishes.undo(rides.settings, 4)
    with connect(rides.settings) as connection:
        for statement in (
            "delete from ops.publish_holds returning 1",
            "delete from ops.published_marts where publish_id > 1 returning 1",
            "delete from ops.published_months where publish_id > 1 returning 1",
            "delete from ops.publishes where publish_id > 1 returning 1",
            "delete from publish_history.rentals returning 1", "delete from publish_history.docks returning 1",
            "delete from publish_history.stations returning 1",
        ):  # fmt: skip
            query(connection, statement)
        connection.commit()
    assert rides.state() == first
    assert follow().anew == "the ledger is at an earlier publish: it was restored"
    assert {one[1] for one in same(rides)} == {1}


@pytest.mark.parametrize(
    "point",
    ["twin-before-commit", "twin-before-commit:4", "twin-after-commit:2", "twin-before-switch", "twin-after-switch"],
)
def test_a_kill_at_any_point_leaves_one_publish_or_another(rides: Rides, follow: Sync, point: str) -> None:
    follow()
    week(rides)
    program = (
        "from granary.twin import config, sync; from granary.warehouse.settings import Settings; s = Settings.load();"
        f"sync.sync(s, config.load(s, True), anew={'switch' in point})"
    )
    killed = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        env=rides.settings.environment() | {"GRANARY_KILL_AT": point},
        check=False,
    )
    assert killed.returncode == -9
    assert [one for one in verify(rides.settings) if not one.is_same] == []
    done = follow()
    assert (done.publish, done.anew) == (5, "")
    assert len({one[1] for one in same(rides)}) == 5
    folders = {one.name for one in config.required(rides.settings).place.glob("twin*")}
    assert folders == {place_of(rides, "twin").name, place_of(rides, "twin_personal").name}


def test_publishes_that_are_not_kept_are_let_go_with_their_files(rides: Rides, follow: Sync) -> None:
    week(rides)
    follow()
    before = {one.name for one in place_of(rides, "twin").rglob("*.parquet")}
    rides.rows("select ops.prune_history('marts', 1)")
    rides.run("update build.docks set dock = 'B' where dock = 'A'")
    rides.publish()
    follow()
    kept = {one.number for one in ledger.line(rides.connection)}
    assert {one[1] for one in same(rides)} == kept == {4, 5, 6}
    assert before - {one.name for one in place_of(rides, "twin").rglob("*.parquet")}


def test_small_files_are_put_together_and_earlier_publishes_stay(
    rides: Rides, follow: Sync, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "MANY", 2)
    rides.run(
        "insert into build.rentals select 100 + n, 'Di', date '2021-03-01' + n, 1, n from generate_series(0, 99) n"
    )
    rides.publish()
    follow()
    for day in range(1, 7):
        rides.run(f"update build.rentals set price = -1 where business_date = '2021-03-0{day}'")
        rides.publish(f"2021-03-0{day}")
        follow()
    (files,) = zip(*rides.rows(NEWEST, "rentals"), strict=True)
    assert len(files) <= 3
    assert len({one[1] for one in same(rides)}) == 8


def test_somebody_who_wrote_to_a_mart_has_it_left_out(rides: Rides, follow: Sync) -> None:
    rides.run("insert into marts.docks values ('by hand', null)")
    done = follow()
    assert done.refused == {"docks": "it has 4 rows, and 3 by its publish: somebody wrote to it"}
    assert "docks" not in {one[2] for one in same(rides)}
    assert state.look(rides.settings).refused == done.refused


def test_the_service_follows_until_it_is_stopped(rides: Rides) -> None:
    stop, said = Event(), list[str]()
    thread = Thread(target=follower.keep_following, args=(rides.settings, said.append, stop))
    thread.start()
    try:
        week(rides)
        for _ in range(120):
            if not state.look(rides.settings).behind and state.look(rides.settings).copies[0].publish_id == 5:
                break
            stop.wait(0.5)
    finally:
        stop.set()
        thread.join()
    assert same(rides)
    assert set(said) == {"the twin is made anew: there is none yet"}  # again, if something was published meanwhile


def test_folders_let_in_who_may_read(rides: Rides, follow: Sync) -> None:
    follow()
    assert place_of(rides, "twin").stat().st_mode & 0o777 == 0o750 == SHARED.mode
    assert place_of(rides, "twin_personal").stat().st_mode & 0o777 == 0o700 == PERSONAL.mode
    modes = {one.stat().st_mode & 0o777 for one in place_of(rides, "twin").rglob("*.parquet")}
    assert modes == {0o640}
    assert {one.stat().st_mode & 0o777 for one in place_of(rides, "twin_personal").rglob("*.parquet")} == {0o600}
    with connect(rides.settings, role="analyst") as connection:
        assert query(connection, "select has_schema_privilege('twin', 'usage')") == [(True,)]
        assert query(connection, "select has_schema_privilege('twin_personal', 'usage')") == [(False,)]
        assert query(connection, "select has_table_privilege('twin.ducklake_table', 'insert')") == [(False,)]
    with connect(rides.settings, role="analyst_pii") as connection:
        assert query(connection, "select has_schema_privilege('twin_personal', 'usage')") == [(True,)]


def test_without_the_var_there_is_no_twin(rides: Rides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "project_vars", dict)
    assert config.load(rides.settings) is None
    assert not config.is_wanted()
    with pytest.raises(GranaryError, match=r"no twin of its marts \(dbt_project.yml\); write `twin: true`"):
        state.look(rides.settings)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("yes please", "vars: twin is 'yes please'"),
        (["to"], "vars: twin is"),
        ({"too": "/srv"}, "vars: twin has too"),
        ({"to": "relative"}, "vars: twin.to is 'relative'"),
        ({"to": "s3://bucket/x"}, "write the full path of a folder"),
        ({"to": 7}, "vars: twin.to is '7'"),
        ({"group": "no such group"}, "this system has no group 'no such group'"),
    ],
)
def test_a_setting_that_nobody_understands_is_refused(warehouse: object, said: object, words: str) -> None:
    with pytest.raises(GranaryError, match=words.replace("(", r"\(").replace(".", r"\.")):
        config.load(warehouse, said)  # type: ignore[arg-type]
