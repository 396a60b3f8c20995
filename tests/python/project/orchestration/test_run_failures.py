"""Runs that fail or are stopped, for real: what is tried again, what is reported, what is left behind.

They move the clock of the retailer that `test_run` looks at, and come after it by name.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from demo import retailer
from granary.dagster.instance import environment, inside, open_instance
from granary.load.withdrawal import withdraw
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


@contextmanager
def landed(place: Place, day: str) -> Iterator[Path]:
    """Give a day's file of receipts, for as long as this is open to be spoilt."""
    path = place.settings.home / "demo" / "landing" / "pos" / "transactions" / f"{day}.parquet"
    whole = path.read_bytes()
    try:
        yield path
    finally:
        path.write_bytes(whole)


def test_a_day_that_is_damaged_or_breaks_the_contract_costs_no_other_and_comes_and_goes_with_its_file(
    place: Place, first: RunOutcome
) -> None:
    """One clock for all: a damaged file, a broken contract beside good days and alone, both mended, one withdrawn."""
    assert first.success
    days = "select business_date::text from marts.fct_sales where business_date >= '2017-02-05' group by 1 order by 1"
    retailer.advance(place.settings, date(2017, 2, 5))
    with landed(place, "2017-02-05") as path:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        outcome = place.run()
    assert outcome.success, outcome.failures
    told = [warning for warning in outcome.warnings if warning.startswith("every_row_accounted_for")]
    [words] = told
    assert words.startswith(
        "every_row_accounted_for of pos.transactions: transactions/2017-02-05.parquet unreadable: the file is damaged"
    )
    assert place.rows(days) == []

    retailer.advance(place.settings, date(2017, 2, 8))
    with landed(place, "2017-02-07") as path:
        pq.write_table(pq.read_table(path).drop_columns(["week"]), path)
        outcome = place.run()
        assert not outcome.success
        [problem] = outcome.failures
        assert "2017-02-07.parquet could not be loaded: the contract is broken: column week is missing" in problem.what
        assert place.rows(days) == [("2017-02-05",), ("2017-02-06",), ("2017-02-08",)]
        assert place.rows("select status from ops.quarantine") == [("superseded",)]

        sold = place.rows("select count(*), sum(sales_value)::text from marts.fct_sales")
        outcome = place.run()
        assert not outcome.success
        assert len(outcome.failures) == 1
        assert outcome.failures[0].what.startswith("pos.transactions: the contract is broken: column week is missing")
        assert "2017-02-07.parquet" in str(outcome.failures[0])
        assert outcome.failures[0].todo
        built = {event.name for event in place.events if event.kind == "materialized"}
        snapshots = {"snap_crm__households", "snap_crm__products", "snap_marketing__campaigns"}
        assert snapshots | {"stg_crm__stores"} <= built
        assert {"fct_sales", "fct_promotions", "dim_product"} <= built, "these follow from the CRM, too"
        assert "stg_pos__transactions" not in built
        assert place.rows("select count(*), sum(sales_value)::text from marts.fct_sales") == sold

    assert place.run().success
    everyday = [("2017-02-05",), ("2017-02-06",), ("2017-02-07",), ("2017-02-08",)]
    assert place.rows(days) == everyday
    with landed(place, "2017-02-07") as path:
        path.unlink()
        withdraw(place.settings, "pos", "transactions", ["transactions/2017-02-07.parquet"])
        assert place.run().success
        assert place.rows(days) == [("2017-02-05",), ("2017-02-06",), ("2017-02-08",)]
    assert place.run().success
    assert place.rows(days) == everyday


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


STOPPED = """
import sys
from demo import retailer
from granary.dagster.run import run_job
from granary.warehouse.settings import Settings
settings = Settings.load()
def tell(event):
    print(event.kind, event.name, file=out, flush=True)
out = open(sys.argv[1], "w")
with retailer.systems(settings):
    run_job(settings, "everything", on_event=tell)
"""


def run_until(event: str, place: Place, folder: Path) -> subprocess.Popen[bytes]:
    """Begin a whole run in a process of its own, whose errors go to a file; return once it tells of such an event."""
    place.forget_build()
    said = folder / "said"
    said.touch()
    command = [sys.executable, "-c", STOPPED, str(said)]
    with (folder / "errors").open("w") as errors:
        child = subprocess.Popen(command, env=environment(place.settings), stderr=errors, start_new_session=True)
    wait_for(lambda: event in said.read_text() or child.poll() is not None)
    return child


def test_sigterm_in_the_middle_of_dbt_leaves_a_canceled_run_and_no_process(
    place: Place, first: RunOutcome, tmp_path: Path
) -> None:
    assert first.success
    child = run_until("materialized", place, tmp_path)
    child.send_signal(signal.SIGTERM)
    child.wait(timeout=60)
    assert "KeyboardInterrupt" in (tmp_path / "errors").read_text()
    assert left_of(child.pid) == [], "a child process was left behind"
    with inside(environment(place.settings)), open_instance() as instance:
        run = instance.get_runs(limit=1)[0]
    assert run.status.value == "CANCELED"
    assert place.rows("select count(*) from pg_stat_activity where application_name = 'dbt'") == [(0,)]


def wait_for(condition: object, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.1)
    raise AssertionError(f"it did not happen within {seconds} s")


def left_of(session: int) -> list[str]:
    """Return the processes of a session that are still there after a second, other than those that have ended."""
    time.sleep(1)
    listing = subprocess.run(["ps", "-eo", "sess=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listing.splitlines()]
    return [words for owner, state, words in rows if int(owner) == session and not state.startswith("Z")]
