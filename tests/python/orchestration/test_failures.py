"""Runs that fail: what a person is told, what is tried again, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date
from typing import TYPE_CHECKING

import pytest

from demo import retailer
from orchestration.failures import last_error, problem_of, problems_of
from orchestration.instance import environment, inside, open_instance
from orchestration.progress import Problem
from warehouse.connection import connect, execute

if TYPE_CHECKING:
    from pathlib import Path

    from orchestration.progress import Event
    from orchestration.run import RunOutcome
    from tests.python.orchestration.conftest import Place

MODEL = {"name": "fct_sales", "resource_type": "model", "original_file_path": "models/marts/core/fct_sales.sql"}
TEST = {
    "name": "fct_sales_grain",
    "resource_type": "test",
    "original_file_path": "models/marts/core/fct_sales.yml",
    "attached_node": "model.granary.fct_sales",
}


def results(folder: Path, *statuses: tuple[str, str, str, int | None]) -> None:
    keys = ("unique_id", "status", "message", "failures")
    rows = [dict(zip(keys, row, strict=True)) for row in statuses]
    (folder / "run_results.json").write_text(json.dumps({"results": rows}))


@pytest.mark.parametrize(
    ("status", "message", "transient"),
    [
        ("error", "Database Error in model fct_sales\n  server closed the connection", True),
        ("error", "Compilation Error in model fct_sales\n  audit: fct_sales_grain", False),
    ],
    ids=["a lost connection may come back", "a failed audit fails again"],
)
def test_what_may_help_is_tried_again(tmp_path: Path, status: str, message: str, transient: bool) -> None:
    results(tmp_path, ("m", status, message, None), ("t", "skipped", "", None))
    problems, again = problems_of(tmp_path, {"nodes": {"m": MODEL, "t": TEST}})
    assert again is transient
    assert [problem.where for problem in problems] == ["models/marts/core/fct_sales.sql"]
    assert problems[0].what == "model fct_sales failed: " + " ".join(message.split())
    assert "dbt build --select fct_sales+" in problems[0].todo


def test_a_failed_test_is_not_tried_again_and_says_how_to_see_its_rows(tmp_path: Path) -> None:
    results(tmp_path, ("t", "fail", "Got 3 results, configured to fail if != 0", 3))
    problems, again = problems_of(tmp_path, {"nodes": {"t": TEST}})
    assert not again
    assert problems == [
        Problem(
            "test fct_sales_grain on fct_sales found 3 rows",
            "models/marts/core/fct_sales.yml",
            "see them with `dbt show --select fct_sales_grain`, mend the source, run again",
        )
    ]


def test_one_row_is_one_row_and_a_broken_test_says_why() -> None:
    assert "found 1 row" in problem_of(TEST, {"status": "fail", "message": "", "failures": 1}).what
    broken = problem_of(TEST, {"status": "error", "message": "column x does not exist", "failures": None})
    assert broken.what == "test fct_sales_grain on fct_sales failed: column x does not exist"


def test_a_dbt_that_died_is_tried_again_with_its_last_words(tmp_path: Path) -> None:
    lines = [{"info": {"level": "error", "msg": "first"}}, {"info": {"level": "error", "msg": "out\nof memory"}}, {}]
    (tmp_path / "dbt.log").write_text("\n".join(json.dumps(line) for line in lines) + "\nhalf a li")
    assert last_error(tmp_path) == "out of memory"
    problems, again = problems_of(tmp_path, {"nodes": {}})
    assert again
    assert problems[0].what == "dbt stopped: out of memory"


def test_a_model_that_fails_once_is_retried_alone_and_the_run_succeeds(place: Place, first: RunOutcome) -> None:
    """Two days pass; a lock time-out breaks fct_baskets on its first attempt, and the lock is gone before the second."""
    assert first.success
    retailer.advance(place.settings, date(2017, 2, 4))
    blocker = connect(place.settings)
    execute(blocker, "lock table marts.fct_baskets in access exclusive mode")
    execute_all(place, f"alter database {place.settings.database} set lock_timeout = '300ms'")

    def mend(event: Event) -> None:
        if event.kind == "retrying":
            blocker.rollback()

    try:
        outcome = place.run(on_event=mend)
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


def test_a_broken_file_stops_the_run_before_dbt_with_one_sentence(place: Place, first: RunOutcome) -> None:
    assert first.success
    retailer.advance(place.settings, date(2017, 2, 5))
    landing = place.settings.home / "demo" / "landing" / "pos" / "transactions" / "2017-02-05.parquet"
    whole = landing.read_bytes()
    landing.write_bytes(whole[: len(whole) // 2])
    try:
        outcome = place.run()
    finally:
        landing.write_bytes(whole)
    assert not outcome.success
    assert len(outcome.failures) == 1
    assert outcome.failures[0].what.startswith("pos.transactions: ")
    assert "2017-02-05.parquet" in str(outcome.failures[0])
    assert outcome.failures[0].todo
    assert not [event for event in place.events if event.stage == "dbt"]


STOPPED = """
import sys
from demo import retailer
from orchestration.run import run_job
from warehouse.settings import Settings
settings = Settings.load()
def tell(event):
    print(event.kind, event.name, file=out, flush=True)
out = open(sys.argv[1], "w")
with retailer.systems(settings):
    run_job(settings, "everything", on_event=tell)
"""


def test_sigterm_in_the_middle_of_dbt_leaves_a_canceled_run_and_no_process(
    place: Place, first: RunOutcome, tmp_path: Path
) -> None:
    assert first.success
    said = tmp_path / "said"
    said.touch()
    child = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(said)],
        env=environment(place.settings),
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    wait_for(lambda: "materialized" in said.read_text() or child.poll() is not None)
    child.send_signal(signal.SIGTERM)
    _, words = child.communicate(timeout=60)
    assert "KeyboardInterrupt" in words
    assert alone(child.pid), "a child process was left behind"
    with inside(environment(place.settings)), open_instance() as instance:
        run = instance.get_runs(limit=1)[0]
    assert run.status.value == "CANCELED"
    assert place.rows("select count(*) from pg_stat_activity where application_name = 'dbt'") == [(0,)]


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen within 90 s")


def alone(session: int) -> bool:
    """Return whether no process of a session is alive."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
