"""Runs over chosen days overwrite these and no others, and what did not change is not written again."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import dagster as dg
import pyarrow.parquet as pq

from granary.dagster.assemble import of_project
from granary.dagster.instance import environment, inside, open_instance

if TYPE_CHECKING:
    from granary.dagster.windows import Window
    from granary.warehouse.settings import Settings
    from tests.python.engine.runs.conftest import Place
    from tests.python.support.project_process import Tell


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


def landed(place: Place) -> tuple[Window, int]:
    """Return the first and the last day that there are files of, and how many rides these hold."""
    files = sorted((place.hire.landing / "rides").glob("*.parquet"))
    days = [date.fromisoformat(path.stem) for path in files]
    return (days[0], days[-1]), sum(pq.read_metadata(path).num_rows for path in files)


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
