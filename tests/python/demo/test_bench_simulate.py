"""What far larger warehouses take: arithmetic that is as the page shows it, and what it is made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench import simulate

PAGE = Path(__file__).parents[3] / "docs" / "scaling.md"


def test_the_sample_itself_is_what_was_measured() -> None:
    point = simulate.simulate(1)
    assert (point.rows, point.home_gb, point.lake_gb, point.cores) == (22.4e6, 8.1, 0.15, 2)
    assert point.refresh_hours == pytest.approx(206 / 3600)
    assert point.day_minutes == pytest.approx(39.9 / 2 / 60)
    # A machine of two cores, disk for 8.1 GB and half of it again, two backups of a GB.
    aws = simulate.CLOUDS[0]
    assert point.one_machine(aws, simulate.ASSUMED) == pytest.approx(2 * 0.05355 * 730 + 12.15 * 0.08 + 2 * 0.023)
    # Per build 0.3 h of 4 cores, 31 times; the work itself is 1.5 / 0.8 times that of Postgres.
    work = (30 * 39.9 / 3600 + 412 / 3600) * 1.5 / 0.8
    assert point.spark_core_hours == pytest.approx(work + 31 * 0.3 * 4)
    dollars = point.spark_core_hours * 0.051 + 4 * 0.05355 * 730 + 1.5 * (0.15 * 0.023 + 8.1 * 0.08)
    assert point.spark(aws) == pytest.approx(dollars)


def test_a_hundred_times_is_ten_times_the_customers_for_ten_years() -> None:
    point = simulate.simulate(100)
    assert (point.rows, point.home_gb, point.year_gb) == pytest.approx((2.24e9, 810, 81))
    assert point.cores == 8  # memory for a twentieth of 810 GB: 5.1 cores' worth
    # 2 cores and 6 that bring 0.7; a day's second part is ten times as long.
    assert point.refresh_hours == pytest.approx(100 * 412 / 3600 / 6.2)
    assert point.day_minutes == pytest.approx(39.9 * (0.6 + 0.4 * 10) / 6.2 / 60)


def test_no_machine_holds_ten_thousand_times() -> None:
    point = simulate.simulate(10_000)
    assert point.home_gb == 81_000
    assert (point.cores, point.day_minutes, point.refresh_hours) == (None, None, None)
    assert point.one_machine(simulate.CLOUDS[0], simulate.ASSUMED) is None
    larger = replace(simulate.ASSUMED, machine_gb=200_000, memory=0.005, night_hours=24)
    assert simulate.simulate(10_000, assumed=larger).cores == 96


def test_page_shows_what_is_simulated(tmp_path: Path) -> None:
    page = tmp_path / "scaling.md"
    page.write_text(PAGE.read_text())
    simulate.main(["--into", str(page)])
    assert page.read_text() == PAGE.read_text()
    assert (tmp_path / "scaling.svg").read_text() == PAGE.with_suffix(".svg").read_text()
    page.write_text("# Nothing\n")
    with pytest.raises(SystemExit, match="has no place for what is simulated"):
        simulate.main(["--into", str(page)])
