"""Runs over chosen days: they overwrite these and no others, and go on where they were killed."""

from __future__ import annotations

import signal
from datetime import date
from typing import TYPE_CHECKING

import dagster as dg
import pyarrow.parquet as pq
import pytest

from granary.dagster.assemble import of_project
from granary.dagster.history import log, runs
from granary.dagster.instance import environment, inside, open_instance
from granary.dagster.run_locks import DIED
from granary.dbt import last_build, unfinished
from granary.dbt import manifest as dbt_manifest
from granary.warehouse.connection import connect, execute
from tests.python.engine.runs.conftest import run, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from granary.dagster.windows import Window
    from granary.dbt.unfinished import Rest
    from granary.warehouse.settings import Settings
    from tests.python.engine.runs.conftest import Place
    from tests.python.support.project_process import Tell

DIGEST = "select count(*), sum(hashtextextended((to_jsonb(t) - 'load_id')::text, 0)::numeric)::text from marts.{} as t"
"""Of a mart. A full refresh loads everything again, by other loads."""
SNAPSHOT = "select count(*)::int, min(dbt_valid_from) from snapshots.snap_club__members"


def of_facts(settings: Settings, _: Tell, first: date, last: date) -> tuple[bool, set[str]]:
    """Run the facts alone over some days as the UI does; return whether it succeeded, and of which days it told."""
    keys = [dg.AssetKey(["marts", "fct_rides"]), dg.AssetKey(["marts", "daily_rides"])]
    tags = {
        "dagster/asset_partition_range_start": first.isoformat(),
        "dagster/asset_partition_range_end": last.isoformat(),
    }
    with inside(environment(settings)), open_instance() as opened:
        job = of_project(settings).resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(instance=opened, tags=tags, asset_selection=keys)
        days = {str(event.partition) for event in result.asset_materializations_for_node("dbt")}
    return result.success, days


def about(settings: Settings, _: Tell, window: Window) -> str:
    """Return what a build over a window is known by."""
    return unfinished.about(last_build.state(settings, dbt_manifest.fingerprint(settings)), window, full_refresh=False)


def rest(settings: Settings, _: Tell, build: str) -> Rest | None:
    """Return what is left of a build."""
    return unfinished.rest(settings, build, dbt_manifest.load(dbt_manifest.prepare(settings)))


def landed(place: Place) -> tuple[Window, int]:
    """Return the first and the last day that there are files of, and how many rides these hold."""
    files = sorted((place.hire.landing / "rides").glob("*.parquet"))
    days = [date.fromisoformat(path.stem) for path in files]
    return (days[0], days[-1]), sum(pq.read_metadata(path).num_rows for path in files)


def marts(place: Place) -> dict[str, tuple[object, ...]]:
    names = place.rows("select table_name::text from information_schema.tables where table_schema = 'marts' order by 1")
    return {str(name): place.rows(DIGEST.format(name))[0] for (name,) in names}


def test_a_single_run_backfill_overwrites_its_days_and_no_others(place: Place) -> None:
    """As the UI starts it, with Dagster's range tags on the facts alone; then one day through `run_job`."""
    among, outside = date(2026, 1, 6), date(2026, 1, 20)
    for schema in ("build", "marts"):
        place.execute(f"delete from {schema}.fct_rides where business_date in ('{among}', '{outside}')")
    succeeded, days = place.process.call(of_facts, date(2026, 1, 5), date(2026, 1, 7))
    assert succeeded
    assert days == {"2026-01-05", "2026-01-06", "2026-01-07"}
    assert (place.rides_of(among), place.rides_of(outside)) == (3, 0)

    outcome = place.run("rides", window=(outside, outside))
    assert outcome.success, outcome.failures
    assert place.rides_of(outside) == 2
    built = {asset.name for asset in outcome.assets}
    assert {"hire.rides", "fct_rides", "daily_rides"} <= built
    assert not {"club.members", "stg_club__members", "snap_club__members", "dim_riders"} & built


def test_if_nothing_changed_nothing_is_loaded_and_no_day_is_rebuilt(place: Place) -> None:
    """Even when models are built again, because the project has changed."""
    (_, last), rides = landed(place)
    place.execute("delete from ops.whole_builds")
    written = place.rows("select xmin::text, ctid::text from marts.fct_rides order by 1, 2")
    outcome = place.run()
    assert outcome.success, outcome.failures
    assert outcome.window == (last, last)
    assert {event.detail for event in place.events if event.kind == "finished"} == {"unchanged"}
    assert "fct_rides" in place.materialized()
    assert place.rows("select xmin::text, ctid::text from marts.fct_rides order by 1, 2") == written
    assert {asset.name: asset.rows for asset in outcome.assets}["fct_rides"] == rides


@pytest.mark.long
def test_a_backfill_that_was_killed_is_failed_and_goes_on_where_it_was(place: Place, tmp_path: Path) -> None:
    """By `kill -9`, as the kernel does it when memory runs out; no handler of ours has a say."""
    place.hire.join((7, "Ulm", "2026-01-01"), (8, "Jena", "2026-01-09"), (9, "Kiel", "2026-01-02"))
    history, rides = landed(place)
    victim = place.another(tmp_path)
    with connect(place.settings) as blocker:
        execute(blocker, "lock table build.ride_months in access exclusive mode")
        victim.start(run, "everything", history, False)
        victim.until("materialized", "fct_rides")
        victim.child.send_signal(signal.SIGKILL)
        victim.end()
    wait_for(lambda: place.rows("select 1 from pg_stat_activity where application_name = 'dbt'") == [])
    built = {
        str(name) for (name,) in place.rows("select name from ops.steps where build is not null and kind <> 'test'")
    }
    assert "fct_rides" in built
    assert "ride_months" not in built

    with inside(environment(place.settings)), open_instance() as instance:
        (dead,) = instance.get_runs(limit=1)
        assert dead.status.value == "STARTED"
        assert dead.remote_job_origin is not None, "the first page of the UI would not show it"

        build = place.process.call(about, history)
        outcome = place.run(window=history)
        assert outcome.success, outcome.failures
        killed = instance.get_run_by_id(dead.run_id)
        assert killed is not None
        assert killed.status.value == "FAILURE"
        assert instance.get_runs(limit=1)[0].status.value == "SUCCESS"
    others = place.materialized()
    assert not built & others
    assert "ride_months" in others
    (skipped,) = (event for event in place.events if event.kind == "skipped")
    assert skipped.rows == len(built)
    assert set(skipped.expected or {}) == built
    for waiting in ("ops.publish_holds", "ops.unpublished", "ops.steps where build is not null"):
        assert place.rows(f"select count(*) from {waiting}") == [(0,)]
    assert [(one.state, one.run_id) for one in runs(place.settings, 2)] == [
        ("SUCCESS", outcome.run_id),
        ("FAILURE", dead.run_id),
    ]
    run_id, lines = log(place.settings, None, everything=False)
    assert run_id == dead.run_id
    assert lines[-1].words == DIED

    # It has succeeded: the next one is another.
    assert place.process.call(rest, build) is None
    resumed, snapshot = marts(place), place.rows(SNAPSHOT)
    assert snapshot[0][0] == 4

    # A full refresh loads and builds everything, and gives the same rows.
    outcome = place.run(full_refresh=True)
    assert outcome.success, outcome.failures
    assert outcome.job == "full_refresh"
    assert outcome.window == history
    loaded = {event.name: event.rows for event in place.events if event.kind == "finished"}
    assert loaded["hire.rides"] == rides
    assert place.materialized() == built | others
    assert (marts(place), place.rows(SNAPSHOT)) == (resumed, snapshot)
