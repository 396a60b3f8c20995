"""The retailer as a whole, on a real Postgres: opening, advancing, being killed, being forgotten."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from datetime import date
from typing import TYPE_CHECKING

import pytest

from demo import crm, data, retailer
from granary.warehouse.connection import connect, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from granary.warehouse.settings import Settings


def files(settings: Settings) -> dict[str, bytes]:
    landing = settings.home / "demo" / "landing"
    return {str(path.relative_to(landing)): path.read_bytes() for path in landing.rglob("*") if path.is_file()}


def state(settings: Settings) -> dict[str, list[tuple[object, ...]]]:
    with connect(settings, crm.database(settings)) as connection:
        return {name: query(connection, f"select * from public.{name} order by 1") for name in crm.ENTITIES}


def income(settings: Settings, household: int) -> tuple[object, ...]:
    with connect(settings, crm.database(settings)) as connection:
        sql = "select income, (updated_at at time zone 'UTC')::text from households where household_id = $1"
        return query(connection, sql, household)[0]


def child(settings: Settings, world: data.Data, script: str) -> subprocess.CompletedProcess[str]:
    """Run `script` in a process of its own, where `settings` and `die` (SIGKILL to itself) are at hand."""
    fields = {**vars(settings), "home": str(settings.home)}
    head = f"""
import dataclasses, os, signal
from datetime import date
from pathlib import Path
from demo import data, retailer
from granary.warehouse.settings import Settings
settings = Settings(**{fields!r})
settings = dataclasses.replace(settings, home=Path(settings.home))
retailer.installed = lambda: data.Data(Path({str(world.folder)!r}))
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    return subprocess.run(
        [sys.executable, "-c", head + script], cwd=PROJECT, capture_output=True, text=True, check=False
    )


def test_at_the_end_of_the_year_the_crm_is_the_real_data(year: Settings) -> None:
    real = data.installed()
    found = state(year)
    known = {row["household_id"]: tuple(row.values()) for row in real.read("demographics").to_pylist()}
    shoppers = sorted(real.read("transactions", ["household_id"])["household_id"].unique().to_pylist())
    assert [row[:-1] for row in found["households"]] == [known.get(key, (key, *[None] * 7)) for key in shoppers]
    products = sorted(tuple(row.values()) for row in real.read("products").to_pylist())
    assert [row[:-1] for row in found["products"]] == products
    assert len(found["stores"]) == 457


def test_open_and_advance_by_the_clock(place: Callable[[str], Settings]) -> None:
    own = place("clock")
    assert not retailer.is_open(own)
    with pytest.raises(GranaryError, match="is not open"):
        retailer.advance(own, date(2017, 1, 1))
    assert retailer.open_for_business(own) == date(2016, 12, 31)
    assert retailer.is_open(own)
    assert (files(own), income(own, 7)) == ({}, ("35-49K", "2016-12-01 00:00:00"))
    assert sorted(path.name for path in (own.home / "demo/landing/pos").iterdir()) == ["promotions", "transactions"]

    done = retailer.advance(own, date(2017, 9, 30))
    assert (done.before, done.after, retailer.clock(own)) == (date(2016, 12, 31), *[date(2017, 9, 30)] * 2)
    assert done.files == len(files(own))
    assert "pos/promotions/week-41.parquet" not in files(own)  # its Monday is 2 October
    assert income(own, 7) == ("35-49K", "2016-12-01 00:00:00")
    assert retailer.advance(own, date(2017, 10, 1)).changes >= 1
    assert income(own, 7) == ("50-74K", "2017-10-01 15:00:00")
    retailer.advance(own, date(2017, 10, 2))
    assert "pos/promotions/week-41.parquet" in files(own)

    with pytest.raises(GranaryError, match="is at 2017-10-02 and cannot go back to 2017-10-01"):
        retailer.advance(own, date(2017, 10, 1))
    with pytest.raises(GranaryError, match="year ends on 2017-12-31"):
        retailer.advance(own, date(2018, 1, 1))
    assert retailer.clock(own) == date(2017, 10, 2)
    assert retailer.advance(own, date(2017, 10, 2)).files == 0


def test_a_retailer_of_a_few_households(place: Callable[[str], Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    some, own = place("some"), place("own")
    retailer.open_for_business(own)
    monkeypatch.setattr(retailer, "installed", data.installed)
    retailer.open_for_business(some, households=7)
    for each in (some, own):
        retailer.advance(each, date(2017, 12, 31))
    assert retailer.open_for_business(some, households=7) == date(2017, 12, 31)
    assert files(some) == files(own)
    assert state(some) == state(own)
    with pytest.raises(GranaryError, match="is open with 7 households, not all"):
        retailer.open_for_business(some)


def test_opening_again_changes_nothing_and_repairs_the_crm(place: Callable[[str], Settings]) -> None:
    own = place("again")
    (own.home / "sources.env").write_text("AWS_REGION=eu-1\n")
    steps: list[str] = []
    retailer.open_for_business(own, None, lambda step: steps.append(step.system))
    assert set(steps) == {"crm", "events", "pos"}
    retailer.advance(own, date(2017, 10, 15))
    environment = (own.home / "sources.env").read_text()
    before = (files(own), state(own))
    assert retailer.open_for_business(own) == date(2017, 10, 15)
    assert (files(own), state(own)) == before
    assert (own.home / "sources.env").read_text() == environment
    assert (own.home / "sources.env").stat().st_mode & 0o777 == 0o600
    lines = dict(line.split("=", 1) for line in environment.splitlines())
    assert lines["AWS_REGION"] == "eu-1"
    assert lines["GRANARY_CRM_URL"] == own.uri(crm.database(own))
    assert lines["GRANARY_LAST_DATE"] == "2017-12-31"
    assert len(lines["GRANARY_MARKETING_KEY"]) >= 43  # 32 random bytes
    with pytest.raises(GranaryError, match="is open with all households, not 5"):
        retailer.open_for_business(own, households=5)
    crm.drop(own)
    retailer.open_for_business(own)
    assert (files(own), state(own)) == before


def test_day_by_day_is_the_same_as_at_once(place: Callable[[str], Settings]) -> None:
    by_day, at_once = place("daily"), place("once")
    for own in (by_day, at_once):
        retailer.open_for_business(own)
    for n in range(1, 33):
        retailer.advance(by_day, date.fromordinal(date(2016, 12, 31).toordinal() + n))
    retailer.advance(at_once, date(2017, 2, 1))
    assert retailer.clock(by_day) == retailer.clock(at_once) == date(2017, 2, 1)
    assert files(by_day) == files(at_once)
    assert state(by_day) == state(at_once)


def test_a_killed_advance_is_completed_by_the_next(place: Callable[[str], Settings], few: data.Data) -> None:
    killed, whole = place("killed"), place("whole")
    for own in (killed, whole):
        retailer.open_for_business(own)
    retailer.advance(whole, date(2017, 12, 31))
    call = "retailer.advance(settings, date(2017, 12, 31), progress=lambda step: {} and die())"
    scripts = [
        "Path.replace = die\n" + call.format("False"),  # between writing a file and giving it its name
        call.format("step.system == 'crm'"),  # in the middle of the CRM's transaction
        "from demo import clock; clock.write = die\n" + call.format("False"),
    ]
    for script in scripts:
        done = child(killed, few, script)
        assert done.returncode == -9, done.stderr
        assert retailer.clock(killed) == date(2016, 12, 31)
        assert all(each == files(whole).get(name) for name, each in files(killed).items() if ".tmp" not in name)
    landed = killed.home / "demo/landing/pos/promotions/week-01.parquet"
    inode = landed.stat().st_ino
    retailer.advance(killed, date(2017, 12, 31))
    assert landed.stat().st_ino == inode
    assert files(killed) == files(whole)
    assert state(killed) == state(whole)


def test_a_killed_opening_leaves_it_closed_and_can_be_repeated(
    place: Callable[[str], Settings], few: data.Data
) -> None:
    own = place("dead")
    script = "retailer.open_for_business(settings, progress=lambda step: step.system == 'pos' and die())"
    assert child(own, few, script).returncode == -9
    assert not retailer.is_open(own)
    assert crm.exists(own)
    retailer.open_for_business(own)
    assert retailer.advance(own, date(2017, 1, 31)).files == len(files(own)) > 0


def test_two_cannot_move_the_clock_at_once(place: Callable[[str], Settings]) -> None:
    own = place("two")
    with (own.home / "demo.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(GranaryError, match="another process"):
            retailer.open_for_business(own)


def test_forgetting_leaves_nothing_but_what_is_not_ours(place: Callable[[str], Settings], tmp_path: Path) -> None:
    own = place("forget")
    (own.home / "sources.env").write_text("AWS_REGION=eu-1\n")
    retailer.open_for_business(own)
    with connect(own, crm.database(own)) as visitor:  # whom the removal has to throw out
        assert query(visitor, "select count(*) from stores")[0][0]
        retailer.forget(own)
    assert not retailer.is_open(own)
    assert not (own.home / "demo").exists()
    assert not crm.exists(own)
    assert (own.home / "sources.env").read_text() == "AWS_REGION=eu-1\n"
    with pytest.raises(GranaryError, match="is not open"):
        retailer.clock(own)
    retailer.forget(own)
    assert os.listdir(tmp_path) == []


def test_a_lost_stock_is_a_clear_error(place: Callable[[str], Settings]) -> None:
    own = place("lost")
    retailer.open_for_business(own)
    (own.home / "demo/stock").rename(own.home / "elsewhere")
    with pytest.raises(GranaryError, match="lost its stock"):
        retailer.advance(own, date(2017, 1, 1))
