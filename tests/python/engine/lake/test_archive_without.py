"""Somebody is forgotten whose rows are archived: only the files that have them are written anew, whatever dies."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from granary.dbt import manifest
from granary.privacy import forget, locations
from granary.privacy.identity import identify
from granary.sources import subjects
from granary.sources.spec import Column
from granary.sources.subjects import Subject
from granary.tiering import archive, restore, without
from granary.tiering.without import ArchivedRows
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from tests.python.engine.lake.test_archive import LATE, Archived, compare_raw
from tests.python.support.killed import killed_at
from tests.python.support.shop import Shop, table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from granary.warehouse.settings import Settings

ANN, BOB = "ann@example.org", "bob@example.org"
RIDES = "select id, rider, fare from raw_shop.orders order by id"
LEDGER = "select unit, rows_read, rows_loaded, rows_forgotten from ops.load_audit order by load_id"
ALL = [(11, BOB, 1.0), (20, BOB, 2.0), (21, BOB, 2.0), (31, BOB, 4.0)]
"""What is left without Ann."""
POINTS = {
    "archive-rewriting": False,
    "archive-rewritten": False,
    "archive-compared": False,
    "archive-switched": False,
    "forget-before-commit": False,
    "forget-erased": True,
    "forget-listed": True,
    "archive-swept": True,
}
"""Where an erasure may be killed, and whether it has happened by then."""


class Riders(Archived):
    """A shop whose orders are about riders: Ann has one in January, which is archived, and one in March."""

    def forget(self, key: str = ANN, rows: ArchivedRows | None = None) -> forget.Outcome:
        return forget.forget(
            self.settings,
            identify("rider", key),
            build=lambda _: None,
            archive=rows or ArchivedRows(self.settings),
            listed=lambda: restore.forget_files(self.settings),
        )

    def put(self, day: str, *rows: tuple[int, str, float], fingerprint: str = "1") -> None:
        names = ("id", "rider", "fare")
        content = {name: [row[place] for row in rows] for place, name in enumerate(names)}
        self.deliver(day, content=content, fingerprint=fingerprint)

    def found(self) -> list[str]:
        """Return the files in which somebody stands."""
        return [name for name in self.files() if ANN in str(pq.read_table(self.place / name).to_pylist()).lower()]


@contextmanager
def only(patch: pytest.MonkeyPatch, shop: Riders) -> Iterator[None]:
    source = {"shop": shop.shop.source(shop.contract)}
    for room in (locations, restore, without):
        patch.setattr(room, "SOURCES", source)
    patch.setattr(manifest, "prepare", lambda settings: settings.home)
    patch.setattr(manifest, "load", lambda _: {"nodes": {}, "sources": {}})
    yield


@pytest.fixture
def riders(warehouse: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Riders]:
    monkeypatch.setenv("GRANARY_ARCHIVE", str(tmp_path / "archive"))
    monkeypatch.setattr(subjects, "declared", lambda: {"rider": Subject("rider", "email")})
    shop = Riders(warehouse, Shop(), tmp_path / "archive", monkeypatch)
    rider = Column("rider", pa.string(), "Rider.", personal="identifier", subject="rider")
    shop.contract = table(rider, Column("fare", pa.float64(), "Fare."), partition="day")
    shop.put("2026-01-05", (10, "Ann@Example.org", 1.0), (11, BOB, 1.0))
    shop.put("2026-01-06", (20, BOB, 2.0), (21, BOB, 2.0))
    shop.put("2026-02-07", (31, BOB, 4.0))
    shop.put("2026-03-08", (40, ANN, 8.0))
    shop.load()
    with only(monkeypatch, shop):
        assert shop.archive().files == 2
        yield shop


def test_only_the_file_that_has_them_is_written_anew(riders: Riders) -> None:
    january, february = riders.held()
    assert riders.found() == [january.path]
    done = riders.forget()
    assert [(one.relation, one.rows, one.measures) for one in done.totals] == [
        ("raw_shop.orders", 1, {"fare": "8.0"}),
        ("raw_shop.orders, archived", 1, {"fare": "1.0"}),
    ]
    new, same = riders.held()
    assert same == february
    assert (new.rows, new.data_from, new.data_until) == (3, january.data_from, january.data_until)
    assert riders.files() == sorted([new.path, february.path])
    assert riders.found() == []
    assert riders.rows(LEDGER) == [
        ("2026-01-05.csv", 2, 1, 1),
        ("2026-01-06.csv", 2, 2, 0),
        ("2026-02-07.csv", 1, 1, 0),
        ("2026-03-08.csv", 1, 0, 1),
    ]
    erased = (
        "select e.row_count, l.unit from ops.erased_rows as e join ops.load_audit as l on l.load_id = erased_load_id"
    )
    assert sorted(riders.rows(erased)) == [(1, "2026-01-05.csv"), (1, "2026-03-08.csv")]
    assert (riders.restore().rows, riders.rows(RIDES)) == (4, ALL)
    assert compare_raw(riders) == [True]
    assert riders.forget().totals == ()


@pytest.mark.parametrize("point", POINTS)
def test_an_erasure_that_was_killed_is_finished_by_the_next_one(riders: Riders, point: str) -> None:
    before = [one.path for one in riders.held()]
    assert killed_at(point, riders.forget)
    after = [one.path for one in riders.held()]
    assert (after != before) == POINTS[point]
    if not POINTS[point]:
        assert riders.rows("select rows_loaded from ops.load_audit order by load_id") == [(2,), (2,), (1,), (1,)]
    riders.forget()
    assert riders.files() == sorted(one.path for one in riders.held())
    assert riders.found() == []
    assert riders.rows("select distinct state from ops.archives") == [("holds",)]
    assert (riders.restore().rows, riders.rows(RIDES)) == (4, ALL)
    assert compare_raw(riders) == [True]


def test_rows_that_are_archived_meanwhile_are_found(riders: Riders) -> None:
    class Moving(ArchivedRows):
        tries = 0

        def prepare(self, is_one: Any) -> None:
            super().prepare(is_one)
            self.tries += 1
            if self.tries == 1:
                assert riders.archive(before=LATE.replace(month=5)).rows == 1

    rows = Moving(riders.settings)
    riders.forget(rows=rows)
    assert rows.tries == 2
    assert (riders.found(), [one.rows for one in riders.held()]) == ([], [3, 1])
    assert (riders.restore().rows, riders.rows(RIDES)) == (4, ALL)


def test_a_file_of_nobody_else_goes_and_one_that_is_kept_for_backups_is_written_anew_too(riders: Riders) -> None:
    riders.restore(until="2026-01-31")
    assert len(riders.found()) == 1
    riders.forget(BOB)  # February's is only his
    assert riders.held() == []
    left = [[row["id"] for row in pq.read_table(riders.place / name).to_pylist()] for name in riders.files()]
    assert sorted(left) == [[], [10]]  # a backup of before finds that nobody is left
    assert riders.rows("select distinct state from ops.archives") == [("released",)]
    assert riders.ids() == [10, 40]


def test_rows_that_were_replaced_go_as_well(riders: Riders) -> None:
    riders.put("2026-01-05", (11, BOB, 1.0), fingerprint="2")
    riders.load()
    assert riders.found() != []
    riders.forget()
    assert riders.found() == []
    assert (riders.restore().rows, riders.rows(RIDES)) == (3, ALL)


def test_a_damaged_file_stops_an_erasure_before_it_begins(riders: Riders) -> None:
    path = riders.place / riders.held()[0].path
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(GranaryError, match="another than was written"):
        riders.forget()
    assert riders.ids() == [40]
    assert riders.rows("select count(*) from ops.erasures") == [(0,)]


def test_a_look_writes_nothing(riders: Riders) -> None:
    before = riders.files()
    found = forget.look(riders.settings, identify("rider", ANN), ArchivedRows(riders.settings, dry_run=True))
    assert [one.rows for one in found if one.relation == "raw_shop.orders, archived"] == [1]
    assert (riders.files(), riders.rows("select count(*) from ops.archives")) == (before, [(2,)])


def test_a_warehouse_of_before_finds_the_file_that_took_the_place(riders: Riders) -> None:
    """Its ledger knows the first file only, which the living warehouse has removed."""
    kept = {name: riders.rows(f"select to_jsonb(t)::text from ops.{name} as t") for name in ("archives", "load_audit")}
    riders.forget()
    with connect(riders.settings) as connection:
        for name, rows in kept.items():
            execute(connection, f"delete from ops.{name}")
            for (row,) in rows:
                record = f"(jsonb_populate_record(null::ops.{name}, $1::jsonb)).*"
                execute(connection, f"insert into ops.{name} overriding system value select {record}", row)
        execute(connection, "delete from ops.erased_rows")
        execute(connection, "update ops.erasures set finished_at = null")
        connection.commit()
    (january, february) = riders.held()
    assert january.path not in riders.files()
    assert restore.bring_back_for(riders.settings, None, riders.settings) == 1
    assert riders.held() == [february]
    (released,) = riders.rows("select path from ops.archives where state = 'released'")
    assert released[0] in riders.files()
    assert riders.rows(LEDGER)[0] == ("2026-01-05.csv", 2, 1, 1)
    assert riders.rows("select row_count from ops.erased_rows") == [(1,)]
    assert riders.ids() == [11, 20, 21]
    assert archive.sweep(riders.settings, "shop") == 0
