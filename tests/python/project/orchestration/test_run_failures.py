"""Runs that fail, for real: what is tried again and what is reported; more of them are in tests/python/engine/runs.

They move the clock of the retailer that `test_run` looks at, and come after it by name.
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

from demo import retailer
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from granary.dagster.run import RunOutcome
    from granary.dbt.run_events import Event
    from tests.python.project.orchestration.conftest import Place


def test_a_model_that_fails_once_is_retried_alone_and_the_run_succeeds(place: Place, first: RunOutcome) -> None:
    """Two days pass; a lock breaks fct_baskets on its first attempt, and is gone before the second."""
    assert first.success
    retailer.advance(place.settings, date(2017, 2, 4))
    blocker = connect(place.settings)
    execute(blocker, "lock table build.fct_baskets in access exclusive mode")
    execute_all(place, f"alter database {place.settings.database} set lock_timeout = '300ms'")

    def unlock(event: Event) -> None:
        if event.kind == "retrying":
            blocker.rollback()

    try:
        outcome = place.run(on_event=unlock)
    finally:
        blocker.close()
        execute_all(place, f"alter database {place.settings.database} reset lock_timeout")
    assert outcome.success, outcome.failures
    assert outcome.window == (date(2017, 2, 3), date(2017, 2, 4))
    built = [event.name for event in place.events if event.kind == "materialized"]
    assert built.count("fct_sales") == 1, "what had succeeded was built again"
    assert built.count("fct_baskets") == 1
    assert [event.name for event in place.events if event.kind == "failed"] == ["fct_baskets"]
    again = [event.kind for event in place.events].index("retrying")
    after = {event.name for event in place.events[again:] if event.kind == "materialized"}
    assert "fct_baskets" in after
    assert not after & {"fct_sales", "dim_date", "stg_pos__transactions"}
    assert place.rows("select max(business_date)::text, count(distinct business_date) from marts.fct_baskets") == [
        ("2017-02-04", 35)
    ]


def execute_all(place: Place, sql: str) -> None:
    with connect(place.settings) as connection:
        execute(connection, sql)
        connection.commit()


def test_a_server_that_goes_away_before_dbt_is_explained(
    place: Place, first: RunOutcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert first.success

    def refuse(*_: object, **__: object) -> None:
        raise GranaryError("cannot connect to Postgres", "db.example", "start it")

    monkeypatch.setattr("granary.dagster.dbt_build.connect", refuse)
    outcome = place.run("crm_snapshots")
    assert not outcome.success
    assert [str(problem) for problem in outcome.failures] == [
        "dbt cannot be run: cannot connect to Postgres (db.example); start it"
    ]


def test_a_defect_is_called_one_and_keeps_its_words(
    place: Place, first: RunOutcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert first.success

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("in a loader")

    monkeypatch.setattr("granary.dagster.loader_assets.load_table", fail)
    outcome = place.run("crm_snapshots")
    assert {problem.what for problem in outcome.failures} == {
        f"step crm__{table} failed: ZeroDivisionError: in a loader" for table in ("households", "products", "stores")
    }
    assert all("please report it" in problem.todo for problem in outcome.failures)


def test_days_for_a_job_without_days_are_refused(place: Place) -> None:
    with pytest.raises(GranaryError, match="crm_snapshots is not about single days"):
        place.run("crm_snapshots", window=(date(2017, 1, 1), date(2017, 1, 2)))
    with pytest.raises(GranaryError, match="there is no job 'nonsense'"):
        place.run("nonsense")
