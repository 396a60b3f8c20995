"""The copy of the project in which several years can be built: what it says otherwise, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench import scaled_project
from demo.copies import Scale
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from pathlib import Path


def differences(copy: Path) -> dict[str, list[tuple[str, str]]]:
    """Return, by file, the lines of the project that differ in the copy, with what they are there."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(path for path in copy.rglob("*") if path.is_file() and "granary" not in path.parts[-3:-1]):
        real = (PROJECT / path.relative_to(copy)).read_bytes()
        if real != path.read_bytes():
            pairs = zip(real.decode().splitlines(), path.read_text().splitlines(), strict=False)
            found[str(path.relative_to(copy))] = [(ours.strip(), its.strip()) for ours, its in pairs if ours != its]
    return found


def test_one_year_is_the_project_itself(tmp_path: Path) -> None:
    assert differences(scaled_project.make(tmp_path / "copy", Scale(copies=4))) == {}


def test_of_two_years_the_calendar_and_the_weeks_go_on(tmp_path: Path) -> None:
    found = differences(scaled_project.make(tmp_path / "copy", Scale(years=2)))
    assert found["dbt_project.yml"] == [('calendar_end: "2018-02-28"', 'calendar_end: "2019-03-06"')]
    assert [its for _, its in found["ingestion/events.py"]] == [
        "LAST = datetime(2019, 3, 7, 4, 59, 59, 999999, tzinfo=timezone.utc)"
    ]
    assert sum("maximum=106)" in its for _, its in found["ingestion/pos.py"]) == 2
    assert found["models/marts/core/fct_sales.yml"] == [
        ("expression: week between 1 and 53", "expression: week between 1 and 106")
    ]
    assert found["models/marts/core/dim_date.yml"] == [
        ("min_value: 1", "min_value: -8"),
        ("max_value: 54", "max_value: 115"),
    ]
    assert set(found) == {
        "dbt_project.yml",
        "ingestion/events.py",
        "ingestion/pos.py",
        "macros/retailer_week.sql",
        "models/intermediate/dates/int_dates__weeks.sql",
        "models/marts/core/dim_date.yml",
        "models/marts/core/fct_promotions.yml",
        "models/marts/core/fct_sales.yml",
        "models/marts/marketing/promotion_lift.yml",
    }


def test_a_place_that_is_gone_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = scaled_project.Change("dbt_project.yml", "no_such_var", "")
    monkeypatch.setattr(scaled_project, "changes", lambda _: [gone])
    with pytest.raises(SystemExit, match=r"dbt_project\.yml has no no_such_var any more"):
        scaled_project.make(tmp_path / "copy", Scale())
