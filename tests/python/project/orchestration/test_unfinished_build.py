"""A backfill that was killed goes on where it was, and ends as if it had not been."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import date
from typing import TYPE_CHECKING

from demo import retailer
from granary.dagster.history import log, runs
from granary.dagster.instance import environment, inside, open_instance
from granary.dagster.run_locks import DIED
from granary.dbt import last_build, unfinished
from granary.dbt import manifest as dbt_manifest
from granary.dbt.run_events import Event
from granary.warehouse import steps
from granary.warehouse.connection import connect
from tests.python.project.orchestration.test_run import landed_lines
from tests.python.project.orchestration.test_run_failures import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from granary.dagster.run import RunOutcome
    from tests.python.project.orchestration.conftest import Place

YEAR = (date(2017, 1, 1), date(2017, 2, 2))
BACKFILL = """
import sys
from datetime import date
from demo import retailer
from granary.dagster.run import run_job
from granary.warehouse.settings import Settings
out, settings = open(sys.argv[1], "w"), Settings.load()
def tell(event):
    print(event.kind, event.name, file=out, flush=True)
with retailer.systems(settings):
    run_job(settings, "everything", window=(date(2017, 1, 1), date(2017, 2, 2)), on_event=tell)
"""
DIGEST = "select count(*), sum(hashtextextended((to_jsonb(t) - 'load_id')::text, 0)::numeric)::text from marts.{} as t"
"""Of a mart. A full refresh loads everything again, by other loads."""
SNAPSHOTS = "select count(*), min(dbt_valid_from) from snapshots.snap_crm__households"


def marts(place: Place) -> dict[str, tuple[object, ...]]:
    names = place.rows("select table_name::text from information_schema.tables where table_schema = 'marts' order by 1")
    return {str(name): place.rows(DIGEST.format(name))[0] for (name,) in names}


def test_a_backfill_that_was_killed_is_failed_and_goes_on_where_it_was(
    place: Place, first: RunOutcome, tmp_path: Path
) -> None:
    """By `kill -9`, as the kernel does it when memory runs out; no handler of ours has a say."""
    assert first.success
    said = tmp_path / "said"
    said.touch()
    child = subprocess.Popen(
        [sys.executable, "-c", BACKFILL, str(said)], env=environment(place.settings), start_new_session=True
    )
    wait_for(lambda: "materialized fct_sales\n" in said.read_text() or child.poll() is not None, 600)
    assert child.poll() is None, said.read_text()
    child.send_signal(signal.SIGKILL)
    child.wait()
    wait_for(lambda: place.rows("select 1 from pg_stat_activity where application_name = 'dbt'") == [])
    built = {
        str(name) for (name,) in place.rows("select name from ops.steps where build is not null and kind <> 'test'")
    }
    assert "fct_sales" in built
    assert "monthly_sales" not in built

    with inside(environment(place.settings)), open_instance() as instance:
        (dead,) = instance.get_runs(limit=1)
        assert dead.status.value == "STARTED"
        assert dead.remote_job_origin is not None, "the first page of the UI would not show it"

        state = last_build.state(place.settings, dbt_manifest.fingerprint(place.settings))
        manifest = dbt_manifest.load(dbt_manifest.prepare(place.settings))
        outcome = place.run(window=YEAR)
        assert outcome.success, outcome.failures
        killed = instance.get_run_by_id(dead.run_id)
        assert killed is not None
        assert killed.status.value == "FAILURE"
        assert instance.get_runs(limit=1)[0].status.value == "SUCCESS"
    rest = {event.name for event in place.events if event.kind == "materialized"}
    assert not built & rest
    assert "monthly_sales" in rest
    (skipped,) = (event for event in place.events if event.kind == "skipped")
    assert skipped.rows == len(built)
    assert set(skipped.expected or {}) == built
    for waiting in ("ops.publish_holds", "ops.unpublished", "ops.steps where build is not null"):
        assert place.rows(f"select count(*) from {waiting}") == [(0,)]
    assert [(run.state, run.run_id) for run in runs(place.settings, 2)] == [
        ("SUCCESS", outcome.run_id),
        ("FAILURE", dead.run_id),
    ]
    run_id, lines = log(place.settings, None, everything=False)
    assert run_id == dead.run_id
    assert lines[-1].words == DIED

    # It has succeeded: the next one is another.
    about = unfinished.about(state, YEAR, full_refresh=False)
    assert unfinished.rest(place.settings, about, manifest) is None
    resumed, snapshots = marts(place), place.rows(SNAPSHOTS)

    # A full refresh loads and builds everything, and gives the same rows.
    outcome = place.run(full_refresh=True)
    assert outcome.success, outcome.failures
    assert outcome.job == "full_refresh"
    assert outcome.window == (YEAR[0], retailer.clock(place.settings))
    loaded = {event.name: event.rows for event in place.events if event.kind == "finished"}
    assert loaded["pos.transactions"] == landed_lines(place)
    assert {event.name for event in place.events if event.kind == "materialized"} == built | rest
    assert (marts(place), place.rows(SNAPSHOTS)) == (resumed, snapshots)


def test_another_build_since_then_or_another_load_is_no_rest(place: Place, first: RunOutcome) -> None:
    assert first.success
    state = last_build.state(place.settings, dbt_manifest.fingerprint(place.settings))
    manifest = dbt_manifest.load(dbt_manifest.prepare(place.settings))
    about = unfinished.about(state, YEAR, full_refresh=False)

    def broke_off(minutes: int) -> None:
        with connect(place.settings) as connection:
            steps.keep(connection, [steps.Step("killed", "model", "fct_sales", "build.fct_sales", False, 1, 1, about)])
            connection.execute(
                f"update ops.steps set build = '{about}', finished_at = (select max(finished_at) from ops.builds)"
                f" + interval '{minutes} minutes' where run_id = 'killed'".encode()
            )
            connection.commit()

    broke_off(1)
    rest = unfinished.rest(place.settings, about, manifest)
    assert rest is not None
    assert rest.built == {"fct_sales"}
    assert not any(name.endswith(".fct_sales") for name in rest.selected)
    assert any(name.endswith(".fct_baskets") for name in rest.selected)
    broke_off(-1)  # a build has ended since
    assert unfinished.rest(place.settings, about, manifest) is None
    broke_off(1)
    later = unfinished.about(last_build.State(state.fingerprint, state.load_id + 1), YEAR, full_refresh=False)
    assert unfinished.rest(place.settings, later, manifest) is None
    broke_off(1)
    full = unfinished.about(state, YEAR, full_refresh=True)
    assert unfinished.rest(place.settings, full, manifest) is None


def test_what_steps_are_expected_to_take_is_known_before_the_next_run(place: Place, first: RunOutcome) -> None:
    assert first.success
    planned: list[Event] = []
    assert place.run("crm_snapshots", on_event=planned.append).success
    expected = planned[0].expected or {}
    assert planned[0].kind == "planned"
    assert "crm.households" in expected
    assert "snap_crm__households" in expected
    assert "fct_sales" not in expected
    loaded = place.rows("select count(*)::int from ops.steps where kind = 'load' and name = 'pos.transactions'")
    assert loaded >= [(1,)]
