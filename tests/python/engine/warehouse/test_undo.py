"""Marts are shown as an earlier publish left them, and forward again; what is kept for that, and for how long."""

from __future__ import annotations

import json
import random
from datetime import date, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from granary.cli.publish_state import publish_state
from granary.privacy import erasure, locations
from granary.privacy.identity import identity_of as identify_as
from granary.privacy.locations import Locations, Place
from granary.sources import subjects
from granary.sources.subjects import Subject
from granary.warehouse import archive, publishes
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError, UsageError
from granary.warehouse.project import PROJECT
from tests.python.support import warm
from tests.python.support.command import GRANARY, granary
from tests.python.support.rides import Rides, week

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.settings import Settings

SAME = "select mart from ops.verify_marts('marts') where not is_same"
KEPT = "select publish_id from ops.publishes where is_kept order by publish_id"
BY_MONTH = {"column": "business_date", "by": "month", "ahead": 1}


@pytest.fixture
def rides(warehouse: Settings) -> Iterator[Rides]:
    """Return the marts as they are published for the first time."""
    with connect(warehouse, role="transformer") as connection:
        made = Rides(connection, warehouse)
        made.begin()
        yield made


def test_all_marts_go_back_together_and_forward_again(rides: Rides) -> None:
    first, second, third, fourth, last = week(rides)
    assert len({json.dumps(one) for one in (first, second, third, fourth, last)}) == 5
    shown = publishes.undo(rides.settings, 1)
    assert (rides.state(), shown.publish.publish_id, shown.newest) == (fourth, 4, 5)
    assert shown.marts == (
        publishes.Changed("rentals", 3, 3),
        publishes.Changed("stations", 1, 1),
    )
    publishes.undo(rides.settings, 3)
    assert rides.state() == first
    assert rides.rows(SAME) == []
    publishes.redo(rides.settings, 2)
    assert rides.state() == third
    assert publishes.redo(rides.settings, None).publish.publish_id == 5
    assert rides.state() == last
    assert rides.rows(SAME) == []


def test_the_ledger_knows_what_people_read_after_an_undo(rides: Rides) -> None:
    week(rides)
    latest = (
        "select business_month, row_count, measures -> 'bikes' from ops.published_months"
        " where mart = 'rentals' and publish_id = (select max(publish_id) from ops.publishes) order by 1"
    )
    publishes.undo(rides.settings, 4)
    assert rides.rows(latest) == [(date(2021, 1, 1), 2, 3), (date(2021, 2, 1), 1, 1)]
    assert rides.rows(
        "select shows, rows_inserted, rows_deleted, is_kept from ops.publishes order by publish_id desc limit 1"
    ) == [(1, 6, 5, False)]


def test_nothing_is_published_over_an_undo_until_it_is_released(rides: Rides) -> None:
    *_, last = week(rides)
    publishes.undo(rides.settings, 2)
    rides.run("update build.docks set dock = 'B'")
    rides.built()
    words = (
        "nothing was published; marts stays as it was: undo keeps publish 3 shown until `granary publish --redo` or"
        " `--release`."
    )
    planned = rides.rows("select ops.prepare_publish($1)", rides.document())[0][0]
    assert planned["error"].startswith(words)
    with connect(rides.settings) as connection:
        (held, waiting) = publish_state(connection).problems
    assert held.startswith("Publishing is held by `granary publish --undo`, since 2")
    assert held.endswith("undo keeps publish 3 shown until `granary publish --redo` or `--release`")
    assert waiting == "Built and not published: docks, rentals, stations: that follows once nothing holds"
    assert publishes.release(rides.settings)
    assert not publishes.release(rides.settings)
    rides.publish()  # carries what was undone as well, since that is what is built
    assert rides.state() == last | {"docks": rides.state()["docks"]} != last
    assert rides.rows("select dock from marts.docks") == [("B",)] * 3
    assert rides.rows(SAME) == []
    assert rides.rows(KEPT) == [(1,), (2,), (3,), (7,)]
    with pytest.raises(GranaryError, match=r"no publishes after the one that is shown \(7\) can be shown"):
        publishes.redo(rides.settings, None)
    publishes.undo(rides.settings, 1)
    assert [one.publish_id for one in publishes.kept(rides.settings) if one.is_shown] == [3]


def test_days_that_were_undone_are_published_by_the_next_build_of_another_day(rides: Rides) -> None:
    rides.run("update build.rentals set bikes = 7 where rental in (1, 3)")
    rides.publish("2021-01-05", "2021-02-01")
    publishes.undo(rides.settings, 1)
    assert rides.rows("select rental, bikes from marts.rentals order by 1") == [(1, 1), (2, 2), (3, 1)]
    rides.run("update build.rentals set bikes = 8 where rental = 2")
    rides.publish("2021-01-31", despite=("undo",))
    assert rides.rows("select rental, bikes from marts.rentals order by 1") == [(1, 7), (2, 8), (3, 7)]
    with connect(rides.settings) as connection:
        assert publish_state(connection).problems == ()


def change(rides: Rides, dice: random.Random) -> None:
    """Change something of each mart, or nothing."""
    number, day = dice.randrange(12), date(2021, 1, 1) + timedelta(days=dice.randrange(60))
    rides.run(
        dice.choice(
            (
                f"insert into build.rentals select {number}, 'Cy', '{day}', 1, {number} where not exists"
                f" (select from build.rentals where rental = {number})",
                f"delete from build.rentals where rental = {number} and rental > 3",
                f"update build.rentals set price = {number}, business_date = '{day}' where rental % 3 = {number % 3}",
            )
        ),
        dice.choice(
            (
                f"insert into build.docks select 'D1', '{day:%Y-%m-01}' from generate_series(1, {number % 3})",
                f"delete from build.docks where ctid in"
                f" (select ctid from build.docks where dock = 'D1' limit {number % 2})",
            )
        ),
        f"update build.stations set name = '{number % 2}' where station is null or {number} > 8",
    )


def test_a_hundred_walks_lead_to_what_each_publish_had_left(rides: Rides) -> None:
    """A walk: a publish, then a step or two back or forward; the next one begins where this one ends."""
    dice = random.Random(20261130)
    line = [(1, rides.state())]
    place = 0
    for _ in range(100):
        rides.rows("select ops.release_undo('marts')")
        change(rides, dice)
        line = [*line[: place + 1], (rides.publish(), rides.state())][-31:]
        place = len(line) - 1
        for _ in range(dice.randint(1, 2)):
            place = dice.choice([other for other in range(max(0, place - 12), len(line)) if other != place])
            rides.rows("select ops.show_publish('marts', $1)", line[place][0])
            assert rides.state() == line[place][1]
        assert rides.rows(SAME) == []
        assert rides.rows(KEPT)[0] == (line[0][0],)


def test_readers_neither_wait_nor_fail_and_see_one_publish(rides: Rides) -> None:
    """Two readers, one in a transaction that began before; the undo waits for neither."""
    week(rides)
    seen = (
        "select (select sum(bikes) from marts.rentals), (select count(*) from marts.docks),"
        " (select count(*) from marts.stations)"
    )
    with (
        connect(rides.settings, role="analyst") as reader,
        connect(rides.settings, role="analyst", autocommit=True) as another,
        connect(rides.settings, role="transformer") as undoing,
    ):
        execute(reader, "set transaction isolation level repeatable read")
        for session in (reader, another, undoing):
            execute(session, "set lock_timeout = '1ms'")
        before = query(reader, seen)
        assert before == [(27, 3, 2)]
        execute(undoing, "select ops.show_publish('marts', 1)")
        assert query(another, seen) == query(reader, seen) == before
        undoing.commit()
        assert query(reader, seen) == before
        assert query(another, seen) == [(4, 3, 3)]


def test_an_undo_that_is_killed_changes_nothing(rides: Rides) -> None:
    *_, last = week(rides)
    killing = rides.settings.environment() | {"GRANARY_KILL_AT": "undo-before-commit"}
    done = warm.run(GRANARY, "publish", "--undo", "3", folder=PROJECT, environment=killing)
    assert done.returncode < 0
    assert rides.state() == last
    assert rides.rows("select count(*) from ops.publish_holds") == [(0,)]
    assert publishes.undo(rides.settings, 3).publish.publish_id == 2


def test_what_cannot_be_shown_says_so(rides: Rides) -> None:
    for steps, words in (
        (1, r"no publishes before the one that is shown \(1\) can be shown"),
        (7, r"no publishes before the one that is shown \(1\) can be shown"),
    ):
        with pytest.raises(GranaryError, match=words):
            publishes.undo(rides.settings, steps)
    with pytest.raises(GranaryError, match=r"no publishes after the one that is shown \(1\) can be shown"):
        publishes.redo(rides.settings, 1)
    with pytest.raises(GranaryError, match=r"publish 99 is not kept: kept are 1 to 1"):
        publishes.as_of(rides.settings, "99")
    with pytest.raises(GranaryError, match="nothing had been published at 1999-01-01"):
        publishes.as_of(rides.settings, "1999-01-01")
    with pytest.raises(UsageError, match="'yesterday' is neither the number of a publish nor a time"):
        publishes.as_of(rides.settings, "yesterday")
    with pytest.raises(GranaryError, match="there is no publish to go back to"):
        publishes.undo(rides.settings, 1, "dev_ada_marts")
    week(rides)
    with pytest.raises(GranaryError, match=r"4 publishes before the one that is shown \(5\) can be shown"):
        publishes.undo(rides.settings, 5)
    with pytest.raises(psycopg.errors.RaiseException, match="publish 99 is not one that marts can be shown as"):
        rides.rows("select ops.show_publish('marts', 99)")


def test_an_undo_refuses_a_mart_that_somebody_wrote_to(rides: Rides) -> None:
    week(rides)
    rides.run("update personal.rentals set bikes = 100 where rental = 2")
    before = rides.state()
    words = (
        "nothing was changed: marts.rentals would not be what it was after publish 4: somebody wrote to it, or what is"
    )
    with pytest.raises(GranaryError, match=words):
        publishes.undo(rides.settings, 1)
    assert rides.state() == before
    assert rides.rows(SAME) == [("rentals",)]


def test_an_undo_refuses_what_is_not_kept_whole(rides: Rides) -> None:
    *_, last = week(rides)
    rides.run("delete from publish_history.rentals where _gone = 3")
    with pytest.raises(
        GranaryError, match="would not be what it was after publish 2: somebody wrote to it, or what is kept"
    ):
        publishes.undo(rides.settings, 3)
    assert rides.state() == last


def test_thirty_publishes_are_kept_and_no_more_bytes_than_a_share_of_the_marts(rides: Rides) -> None:
    week(rides)
    prune = "select ops.prune_history('marts', $1::integer, $2::numeric)"
    assert rides.rows(prune, 30, 0.3) == [(0,)]
    assert rides.rows(prune, 3, 0.3) == [(1,)]
    assert rides.rows(KEPT) == [(2,), (3,), (4,), (5,)]
    assert rides.rows("select min(coalesce(_gone, _came)) from publish_history.rentals") == [(3,)]
    ((newest,),) = rides.rows(
        "select sum(size)"
        " from (select pg_column_size(r) as size from publish_history.rentals as r where 5 in (_gone, _came)"
        " union all select pg_column_size(r) from publish_history.docks as r where 5 in (_gone, _came)"
        " union all select pg_column_size(r) from publish_history.stations as r where 5 in (_gone, _came)) as sizes"
    )
    ((size,),) = rides.rows(
        "select sum(pg_total_relation_size(m)) from unnest(array['personal.rentals', 'marts.docks', 'marts.stations']"
        "::regclass[]) as m"
    )
    assert rides.rows(prune, 30, float(newest + 1) / float(size)) == [(2,)]
    assert rides.rows(KEPT) == [(4,), (5,)]
    assert rides.rows(prune, 30, 0) == [(1,)]
    assert rides.rows(KEPT) == [(5,)]
    assert rides.rows("select pg_relation_size('publish_history.rentals')") == [(0,)]  # emptied, not only deleted
    assert rides.rows("select mart, max(publish_id) from ops.published_marts group by 1 order by 1") == [
        ("docks", 5), ("rentals", 5), ("stations", 5),
    ]  # fmt: skip
    assert rides.rows(SAME) == []


def test_columns_that_come_beside_a_view_of_people_can_be_undone(rides: Rides) -> None:
    """The table stays, with a column more that is empty; one that is made anew ends what can be shown."""
    rides.run(
        "create schema desk", "create view desk.of_people as select station from marts.stations",
        "update build.stations set name = 'Hall' where station = 1",
    )  # fmt: skip
    rides.publish()
    before = rides.state()
    rides.run(
        "alter table build.stations add column racks integer", "update build.stations set racks = 5 where station = 1"
    )
    rides.publish()
    after = rides.state()
    publishes.undo(rides.settings, 1)
    assert rides.rows("select station, name, racks from marts.stations where station = 1") == [(1, "Hall", None)]
    assert rides.state() == before | {"stations": rides.state()["stations"]}
    assert rides.rows(SAME) == []
    publishes.as_of(rides.settings, "3")
    assert rides.state("as_of_3") == after
    publishes.redo(rides.settings, None)
    assert rides.state() == after
    assert rides.rows(SAME) == []
    publishes.undo(rides.settings, 2)
    assert rides.rows("select name, racks from marts.stations where station = 1") == [("Park", None)]
    publishes.redo(rides.settings, None)

    rides.run("alter table build.docks add column racks integer")
    rides.publish()
    assert rides.rows(KEPT) == [(8,)]
    assert rides.rows(SAME) == []
    assert rides.rows("select station from desk.of_people where station = 1") == [(1,)]


def test_another_key_ends_what_can_be_shown(rides: Rides) -> None:
    week(rides)
    rides.marts["stations"]["meta"]["declared_indexes"] = [{"columns": ["station"]}]
    rides.publish()
    assert rides.rows(KEPT) == [(6,)]
    assert rides.rows("select to_regclass('publish_history.rentals') is not null") == [(True,)]
    rides.run("update build.stations set name = 'Dock'")
    rides.publish()
    assert rides.rows("select _came, _gone, _copies, name from publish_history.stations order by _gone, name") == [
        (None, 7, 1, "nowhere"),
        (None, 7, 1, "unknown, too"),
        (7, None, 2, "Dock"),
    ]
    publishes.undo(rides.settings, 1)
    assert rides.rows(SAME) == []


def test_analysts_read_an_earlier_publish_with_the_masks_of_today(rides: Rides) -> None:
    first, second, third, _, _ = week(rides)
    made = publishes.as_of(rides.settings, "1")
    assert (made.schema, made.marts) == ("as_of_1", ("docks", "rentals", "stations"))
    publishes.as_of(rides.settings, "2")
    publishes.as_of(rides.settings, "3")
    assert [rides.state(f"as_of_{number}") for number in (1, 2, 3)] == [first, second, third]
    publishes.undo(rides.settings, 3)
    assert [rides.state(f"as_of_{number}") for number in (1, 2, 3)] == [first, second, third]
    publishes.redo(rides.settings, None)
    rides.run("update build.rentals set bikes = 1", "update build.docks set dock = 'Z'")
    rides.built(marts=("rentals",))
    rides.publish()
    assert rides.state("as_of_2") == second
    riders = "select rider from as_of_1.rentals where rental = 1"
    with connect(rides.settings, role="analyst") as analyst:
        assert query(analyst, riders) == [("masked",)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(analyst, "select 1 from publish_history.rentals")
    with connect(rides.settings, role="auditor") as auditor, pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(auditor, riders)
    with connect(rides.settings, role="analyst_pii") as informed:
        assert query(informed, riders) == [("Ada",)]
    # Another tier, and other readers: the views follow.
    rides.marts["rentals"]["columns"]["bikes"] = {"personal": "identifier"}
    rides.marts["docks"]["grants"] = {"select": ["auditor"]}
    rides.publish()
    with connect(rides.settings, role="analyst") as analyst:
        assert query(analyst, "select bikes from as_of_1.rentals where rental = 1") == [(None,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(analyst, "select 1 from as_of_1.docks")


def test_a_view_of_a_publish_fails_once_that_is_not_kept(rides: Rides) -> None:
    week(rides)
    publishes.as_of(rides.settings, "1")
    publishes.as_of(rides.settings, "2")
    rides.run("create schema desk", "create view desk.mine as select * from as_of_2.docks")
    assert rides.rows("select ops.prune_history('marts', 1)") == [(3,)]
    assert rides.rows("select to_regnamespace('as_of_1')::text") == [(None,)]
    for view in ("as_of_2.docks", "as_of_2.rentals", "desk.mine"):
        with pytest.raises(psycopg.errors.RaiseException, match="what publish 2 left is not kept any more"):
            rides.rows(f"select * from {view}")
        rides.connection.rollback()


def test_a_time_means_what_was_shown_then(rides: Rides) -> None:
    first, second, *_ = week(rides)
    rides.run(
        "update ops.publishes set finished_at = timestamptz '2021-03-01 12:00+00' + publish_id * interval '1 hour'",
    )
    publishes.undo(rides.settings, 4)
    rides.run("update ops.publishes set finished_at = '2021-03-01 20:00+00' where shows is not null")
    for when, publish in (
        ("2021-03-01 13:00Z", 1),
        ("2021-03-01T14:59:59+00:00", 2),
        ("2021-03-01 20:30+01:00", 5),
        ("2021-03-01", 1),
    ):
        assert publishes.as_of(rides.settings, when).publish.publish_id == publish, when
    assert [rides.state("as_of_1"), rides.state("as_of_2")] == [first, second]
    assert publishes.drop_as_of(rides.settings, "1")
    assert not publishes.drop_as_of(rides.settings, "1")


def test_marts_that_were_published_before_anything_was_kept(rides: Rides) -> None:
    """As in a warehouse of an earlier engine: it begins with the publish before the first one of this engine."""
    rides.run("delete from ops.published_marts", "update ops.publishes set is_kept = false")
    rides.run("update build.rentals set bikes = 9 where rental = 1")
    before = rides.state()
    rides.publish()
    assert rides.rows(SAME) == []
    assert rides.rows(KEPT) == [(2,)]
    rides.run("delete from build.rentals where rental = 1")
    rides.publish()
    publishes.undo(rides.settings, 1)
    assert rides.state() == before | {"rentals": rides.state()["rentals"]}
    assert rides.rows("select bikes from marts.rentals where rental = 1") == [(9,)]


def test_what_is_archived_is_gone_from_what_is_kept(rides: Rides) -> None:
    rides.marts["rentals"]["meta"] |= {"range_partitions": BY_MONTH}
    rides.publish()
    rides.run("update build.rentals set bikes = 5")
    rides.publish()
    rides.run("update build.rentals set bikes = 6")
    rides.publish()
    archive.archive(rides.settings, "marts", "rentals", "2021-02-01")
    assert rides.rows(SAME) == []
    bikes = "select rental, bikes from marts.rentals order by 1"
    for steps, found in ((1, [(3, 5)]), (1, [(3, 1)])):
        publishes.undo(rides.settings, steps)
        assert rides.rows(bikes) == found
        assert rides.rows(SAME) == []
    publishes.redo(rides.settings, None)
    assert rides.rows(bikes) == [(3, 6)]
    assert rides.rows(SAME) == []


def test_who_is_forgotten_is_gone_from_all_that_is_kept(rides: Rides) -> None:
    """In the transaction that erases; and the publish that follows does not keep the rows that it takes out."""
    rider, theirs = Subject("rider", "email"), "select count(*) from {} where rider ilike 'ada'"
    week(rides)
    rides.run("update build.rentals set rider = 'ADA' where rental = 3")
    rides.publish()
    assert rides.rows(theirs.format("publish_history.rentals")) == [(4,)]  # three that went, and the key of one
    place = Place("publish_history", "rentals", "rider", rider, is_history=True)
    where = Locations((), (), (place,), (), (), {}, frozenset())
    with connect(rides.settings, role="eraser") as connection:
        execute(connection, "insert into ops.erasures (subject, key_mark) values ('hash', 'mark')")
        taken = erasure.Erasing(connection, where)
        taken.erase(identify_as(rider, "ada"), 1)
        connection.commit()
    assert (taken.taken, rides.rows(theirs.format("publish_history.rentals"))) == (4, [(0,)])
    assert rides.rows(SAME) == []
    for _ in range(5):  # the erasure is not published yet: people still read the newest of her rows
        publishes.undo(rides.settings, 1)
        assert rides.rows(SAME) == []
        assert rides.rows(theirs.format("personal.rentals")) == [(1,)]
    publishes.redo(rides.settings, None)

    rides.run("delete from build.rentals where rider ilike 'ada'")
    rides.publish()
    for _ in range(5):
        assert (
            rides.rows(theirs.format("personal.rentals"))
            == rides.rows(theirs.format("publish_history.rentals"))
            == [(0,)]
        )
        assert rides.rows(SAME) == []
        publishes.undo(rides.settings, 1)
    assert rides.rows("select rental from marts.rentals order by 1") == [(2,)]


def test_an_erasure_looks_into_what_is_kept(rides: Rides, monkeypatch: pytest.MonkeyPatch) -> None:
    week(rides)
    described = {
        "name": "rentals", "resource_type": "model", "schema": "build", "config": {"schema": "build"},
        "original_file_path": "x.sql",
        "columns": {"rider": {"config": {"meta": {"personal": "identifier", "subject": "rider"}}}},
    }  # fmt: skip
    monkeypatch.setattr(subjects, "declared", lambda: {"rider": Subject("rider", "email")})
    monkeypatch.setattr(locations, "_manifest", lambda _: {"sources": {}, "nodes": {"rentals": described}})
    found = locations.locate(rides.settings)
    assert [place.name for place in found.kept] == ["publish_history.rentals"]
    assert [place.name for place in found.built] == ["build.rentals", "personal.rentals"]


def test_a_mart_that_the_project_has_no_more_keeps_nothing(rides: Rides) -> None:
    week(rides)
    del rides.marts["stations"]
    rides.rows("select ops.end_run($1)", rides.document())
    assert rides.rows("select to_regclass('publish_history.stations')::text, to_regclass('marts.stations')::text") == [
        (None, "marts.stations")
    ]
    publishes.undo(rides.settings, 4)
    assert rides.rows("select count(*) from marts.docks") == [(3,)]


def test_the_command(rides: Rides) -> None:
    week(rides)
    listed = granary(rides.settings, "publish")
    assert listed.returncode == 0, listed.stderr
    assert [line.split()[1] for line in listed.stdout.splitlines() if "│ shown" in line] == ["5"]
    kept = json.loads(granary(rides.settings, "publish", "--json").stdout)
    assert [one["publish_id"] for one in kept] == [5, 4, 3, 2, 1]
    undone = granary(rides.settings, "publish", "--undo", "2")
    assert undone.returncode == 0, undone.stderr
    assert "The marts are as publish 3 left them" in undone.stdout
    assert "Nothing is published until `granary publish --redo`" in undone.stdout
    status = granary(rides.settings, "status")
    assert status.returncode == 1
    assert "undo keeps publish 3 shown until `granary publish --redo` or `--release`" in " ".join(status.stdout.split())
    too_many = granary(rides.settings, "publish", "--undo", "9")
    assert (too_many.returncode, too_many.stderr) == (
        1,
        "granary: 2 publishes before the one that is shown (3) can be shown (marts); `granary publish` lists them\n",
    )
    for wrong in (("--undo", "--redo"), ("3",), ("--undo", "0"), ("--release", "2")):
        assert granary(rides.settings, "publish", *wrong).returncode == 2
    made = granary(rides.settings, "as-of", "4")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("as_of_4: 3 views of publish 4 (")
    assert granary(rides.settings, "as-of", "4", "--drop").stdout == "Dropped.\n"
    assert granary(rides.settings, "as-of", "soon").returncode == 2
    assert granary(rides.settings, "publish", "--redo").returncode == 0
    assert rides.rows(SAME) == []


@pytest.mark.parametrize("role", ["loader", "analyst", "analyst_pii", "auditor"])
def test_nobody_else_may_undo(rides: Rides, role: str) -> None:
    with connect(rides.settings, role=role) as other:
        for call in (
            "show_publish('marts', 1)",
            "release_undo('marts')",
            "prune_history('marts')",
            "show_as_of('marts', 1)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                execute(other, f"select ops.{call}")
            other.rollback()
