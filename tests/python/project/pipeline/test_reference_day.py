"""The value of households as of an earlier day is what it was on that day: no forecast knows its future."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.python.project.pipeline.conftest import Pipeline

AS_OF = ("--vars", "as_of: 2017-10-03")
MODELS = ("household_value", "household_value_backtest")


def _as_of(pipeline: Pipeline) -> dict[str, Any]:
    """Build the value of households as of October 3, with its tests, and return its rows."""
    pipeline.dbt("build", "--select", "config.meta.depends_on_vars:as_of+", *AS_OF)
    return {name: sorted(pipeline.query(f"select t::text from marts.{name} as t")) for name in MODELS}


def test_an_earlier_reference_day_sees_nothing_later(pipeline: Pipeline) -> None:
    pipeline.day(date(2017, 10, 2))
    then = _as_of(pipeline)
    pipeline.day(date(2017, 12, 31))
    assert pipeline.query("select count(*) from marts.household_value where as_of_date > '2017-12-01'") == [(7,)]
    assert _as_of(pipeline) == then
    # One row for each household, and one for each method and each of July 5 and April 6.
    assert {name: len(rows) for name, rows in then.items()} == {"household_value": 7, "household_value_backtest": 6}
