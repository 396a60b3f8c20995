"""Archived raw rows and the models that were made from them: kept, explained, computed again, and forgotten."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from tests.python.support.bike_hire import BikeHire

if TYPE_CHECKING:
    from pathlib import Path

    from granary.warehouse.settings import Settings

FACTS = "select ride_id, business_date::text, fare::text from marts.fct_rides order by 1"
MONTHS = "select month::text, ride_count, fare::text from marts.ride_months order by 1"
RAW = "select ride_id from raw_hire.rides order by 1"
BEFORE = [("2026-01-01", 3, "6.00"), ("2026-02-01", 1, "4.00"), ("2026-04-01", 1, "5.00")]


@pytest.fixture
def hire(warehouse: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BikeHire:
    hire = BikeHire(warehouse, tmp_path)
    for name, value in hire.environment(tmp_path / "archive").items():
        monkeypatch.setenv(name, value)
    hire.deliver("2026-01-05", (1, 7, "1.00"), (2, 8, "2.00"))
    hire.deliver("2026-01-06", (3, 8, "3.00"))
    hire.deliver("2026-02-01", (4, 7, "4.00"))
    hire.deliver("2026-04-30", (5, 9, "5.00"))
    hire.command("load")
    assert hire.build() == []
    assert hire.rows(MONTHS) == BEFORE
    return hire


def test_marts_keep_what_they_were_made_from(hire: BikeHire, tmp_path: Path) -> None:
    facts = hire.rows(FACTS)
    hire.deliver("2026-01-07", (6, 7, "6.00"))
    hire.command("load")
    told = hire.command("archive-raw")
    assert "4 rows" not in told
    assert hire.rows(RAW) == [(5,), (6,)]  # what no model has yet stays

    # A day that is wholly in raw is computed, and the others are kept.
    assert hire.build() == []
    assert hire.rows(FACTS) == sorted([*facts, (6, "2026-01-07", "6.00")])
    assert hire.rows(MONTHS)[0] == ("2026-01-01", 4, "12.00")
    hire.command("archive-raw")
    assert hire.rows(RAW) == [(5,)]
    assert hire.build() == []

    # A corrected file is a day of its own; rows that come for a day beside archived ones are not.
    hire.deliver("2026-01-06", (3, 8, "3.50"))
    hire.command("load")
    assert hire.build() == []
    assert hire.rows("select fare::text from marts.fct_rides where ride_id = 3") == [("3.50",)]
    (hire.landing / "rides" / "2026-01-05.csv").rename(hire.landing / "rides" / "2026-01-05 of two.csv")

    # Where it came from is still known, to file and line.
    told = hire.command("explain", "fct_rides", "--where", "ride_id = 2")
    assert "rides/2026-01-05.csv" in told
    assert "1 of 2 rows: row 2" in told
    assert f"archived in {tmp_path}/archive/raw/hire/rides/2026-01-" in told

    # Nothing is computed without its rows, and what brings them back is said.
    (failed,) = hire.build("--full-refresh", "--select", "fct_rides", "int_rides__changed_dates")[:1]
    assert "granary archive-raw hire.rides --restore" in failed
    (failed,) = hire.build("--select", "fct_rides", "--vars", '{"from_date": "2026-01-05", "to_date": "2026-01-05"}')
    command = failed.partition("run this again: ")[2].split("\n")[0].split()
    assert " ".join(command) == "granary archive-raw hire.rides --restore --since 2026-01-05 --until 2026-01-06"
    before = hire.rows(FACTS)
    hire.command(*command[1:])
    hire.command("archive-raw", "hire.rides", "--restore")
    assert hire.build("--full-refresh") == []
    assert hire.rows(FACTS) == before


def test_a_build_brings_back_what_it_needs_and_it_moves_again(hire: BikeHire) -> None:
    facts = hire.rows(FACTS)
    hire.command("archive-raw")
    assert hire.rows(RAW) == [(5,)]
    told = hire.command("replay", "hire")
    assert "the build needs archived rows of hire.rides, 2026-01-05 to 2026-01-06: 3 rows to bring back" in told
    assert (hire.rows(FACTS), hire.rows(MONTHS), hire.rows(RAW)) == (facts, BEFORE, [(5,)])

    # A model whose SQL changed is built anew by Dagster's run.
    model = hire.folder / "models" / "marts" / "fct_rides.sql"
    model.write_text(model.read_text().replace("fare, load_id", "cast(fare * 2 as numeric(18, 2)) as fare, load_id"))
    told = hire.command("run")
    assert "3 rows to bring back (file 1 of 2)" in told
    assert "1 row to bring back (file 2 of 2)" in told
    assert hire.rows(FACTS) == [(ride, day, str(2 * Decimal(fare))) for ride, day, fare in facts]
    assert hire.rows(RAW) == [(5,)]
    assert json.loads(hire.command("archive-raw", "--json"))[0]["rows"] == 0


def test_who_is_forgotten_leaves_the_archive_too(hire: BikeHire, tmp_path: Path) -> None:
    hire.command("archive-raw")
    (january, february) = json.loads(hire.command("archive-raw", "--list", "--json"))
    assert (january["rows"], february["rows"]) == (3, 1)
    told = hire.command("forget", "rider", "7", "--dry-run")
    assert told.count("raw_hire.rides, archived") == 2
    assert hire.rows(RAW) == [(5,)]
    assert len(riders(tmp_path / "archive")) == 2
    hire.command("forget", "rider", "7", "--yes")
    assert hire.rows("select ride_id from marts.fct_rides order by 1") == [(2,), (3,), (5,)]
    assert hire.rows(MONTHS) == [("2026-01-01", 2, "5.00"), ("2026-04-01", 1, "5.00")]
    assert all(7 not in found for found in riders(tmp_path / "archive").values())
    (held,) = json.loads(hire.command("archive-raw", "--list", "--json"))
    assert (held["rows"], hire.rows(RAW)) == (2, [(5,)])
    assert "row 2" in hire.command("explain", "fct_rides", "--where", "ride_id = 2")
    hire.command("archive-raw", "hire.rides", "--restore")
    assert hire.rows(RAW) == [(2,), (3,), (5,)]
    assert hire.build("--full-refresh") == []
    assert hire.rows(MONTHS) == [("2026-01-01", 2, "5.00"), ("2026-04-01", 1, "5.00")]


def riders(place: Path) -> dict[str, list[int]]:
    """Return whom each file has."""
    return {path.name: pq.read_table(path).column("rider_id").to_pylist() for path in place.rglob("*.parquet")}
