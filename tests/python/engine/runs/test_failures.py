"""Runs that fail or are stopped, for real: what is loaded and built all the same, what is reported, what is left."""

from __future__ import annotations

import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from granary.dagster.instance import environment, inside, open_instance
from granary.load.withdrawal import withdraw
from granary.warehouse.connection import connect, execute
from tests.python.engine.runs.conftest import run, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from granary.warehouse.settings import Settings
    from tests.python.engine.runs.conftest import Place
    from tests.python.support.project_process import Tell


@contextmanager
def landed(place: Place, day: str) -> Iterator[Path]:
    """Give a day's file of rides, for as long as this is open to be spoilt."""
    path = place.hire.file(day)
    whole = path.read_bytes()
    try:
        yield path
    finally:
        path.write_bytes(whole)


def take_out(settings: Settings, _: Tell, unit: str) -> None:
    """Withdraw a file of rides."""
    withdraw(settings, "hire", "rides", [unit])


def test_a_day_that_is_damaged_or_breaks_the_contract_costs_no_other_and_comes_and_goes_with_its_file(
    place: Place,
) -> None:
    """A damaged file, a broken contract beside good days and alone, both mended, one withdrawn."""
    days = "select business_date::text from marts.fct_rides where business_date >= '2026-02-05' group by 1 order by 1"
    place.hire.deliver("2026-02-05", (21, 7, "1.00"))
    with landed(place, "2026-02-05") as path:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        outcome = place.run()
    assert outcome.success, outcome.failures
    told = [warning for warning in outcome.warnings if warning.startswith("every_row_accounted_for")]
    [words] = told
    assert words.startswith(
        "every_row_accounted_for of hire.rides: rides/2026-02-05.parquet unreadable: the file is damaged"
    )
    assert place.rows(days) == []

    place.hire.deliver("2026-02-06", (22, 8, "2.00"))
    place.hire.deliver("2026-02-07", (23, 8, "3.00"), (24, 9, "4.00"))
    place.hire.deliver("2026-02-08", (25, 9, "5.00"))
    with landed(place, "2026-02-07") as path:
        pq.write_table(pq.read_table(path).drop_columns(["fare"]), path)
        outcome = place.run()
        assert not outcome.success
        [problem] = outcome.failures
        assert "2026-02-07.parquet could not be loaded: the contract is broken: column fare is missing" in problem.what
        assert place.rows(days) == [("2026-02-05",), ("2026-02-06",), ("2026-02-08",)]
        assert place.rows("select status from ops.quarantine") == [("superseded",)]

        sold = place.rows("select count(*), sum(fare)::text from marts.fct_rides")
        outcome = place.run()
        assert not outcome.success
        assert len(outcome.failures) == 1
        assert outcome.failures[0].what.startswith("hire.rides: the contract is broken: column fare is missing")
        assert "2026-02-07.parquet" in str(outcome.failures[0])
        assert outcome.failures[0].todo
        built = place.materialized()
        assert {"stg_club__members", "snap_club__members", "dim_riders"} <= built
        assert {"fct_rides", "daily_rides"} <= built, "these follow from the club, too"
        assert not {"stg_hire__rides", "int_rides__changed_dates"} & built
        assert place.rows("select count(*), sum(fare)::text from marts.fct_rides") == sold

    assert place.run().success
    everyday = [("2026-02-05",), ("2026-02-06",), ("2026-02-07",), ("2026-02-08",)]
    assert place.rows(days) == everyday
    with landed(place, "2026-02-07") as path:
        path.unlink()
        place.process.call(take_out, "rides/2026-02-07.parquet")
        assert place.run().success
        assert place.rows(days) == [("2026-02-05",), ("2026-02-06",), ("2026-02-08",)]
    assert place.run().success
    assert place.rows(days) == everyday


def test_sigterm_in_the_middle_of_dbt_leaves_a_canceled_run_and_no_process(place: Place, tmp_path: Path) -> None:
    place.execute("delete from ops.whole_builds")
    stopped = place.another(tmp_path)
    with connect(place.settings) as blocker:  # dbt is in the middle, and waits there
        execute(blocker, "lock table build.ride_months in access exclusive mode")
        stopped.start(run, "everything", None, False)
        stopped.until("materialized", "fct_rides")
        assert left_of(stopped.child.pid) != []
        stopped.child.send_signal(signal.SIGTERM)
        stopped.child.wait(timeout=60)
    stopped.end()
    assert "KeyboardInterrupt" in (tmp_path / "errors").read_text()
    wait_for(lambda: left_of(stopped.child.pid) == [], 10)
    with inside(environment(place.settings)), open_instance() as instance:
        latest = instance.get_runs(limit=1)[0]
    assert latest.status.value == "CANCELED"
    assert place.rows("select count(*) from pg_stat_activity where application_name = 'dbt'") == [(0,)]


def left_of(session: int) -> list[str]:
    """Return the processes of a session other than those that have ended."""
    listing = subprocess.run(["ps", "-eo", "sess=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listing.splitlines()]
    return [words for owner, state, words in rows if int(owner) == session and not state.startswith("Z")]
