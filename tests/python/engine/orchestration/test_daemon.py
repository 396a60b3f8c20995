"""What the daemon is promised to do between the runs, when, and what it does not do by itself."""

from __future__ import annotations

import runpy
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from granary.dagster import automation
from granary.dagster.arrivals import landed, landing_zone
from granary.dagster.incident_events import incidents_of_assets
from granary.dagster.instance import configuration
from granary.dagster.loader_assets import loaders, partitions
from granary.dagster.schedules import daily_schedule, schedule
from granary.dagster.sensors import SENSORS, rest_of_runs

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings


def test_what_looks_after_dead_runs_freshness_and_rests_is_on_from_the_beginning() -> None:
    sensors = {sensor.name: sensor for sensor in (*SENSORS, incidents_of_assets, rest_of_runs([]))}
    assert {name: sensor.default_status for name, sensor in sensors.items()} == dict.fromkeys(
        ("dead_runs", "freshness", "incidents", "rest_of_runs"), dg.DefaultSensorStatus.RUNNING
    )
    assert sensors["dead_runs"].minimum_interval_seconds == 30
    assert sensors["freshness"].minimum_interval_seconds == 15 * 60


@pytest.mark.parametrize(("setting", "status"), [({}, "STOPPED"), ({"GRANARY_SCHEDULES": "running"}, "RUNNING")])
def test_what_starts_runs_is_on_where_a_deployment_says_so(
    monkeypatch: pytest.MonkeyPatch, setting: dict[str, str], status: str
) -> None:
    monkeypatch.delenv("GRANARY_SCHEDULES", raising=False)
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    made = runpy.run_path(str(automation.__file__))
    assert {made["SCHEDULES"].value, made["SENSORS"].value} == {status}


def test_all_that_starts_runs_goes_by_that() -> None:
    made = daily_schedule("daily", "30 5 * * *", "Every morning.")
    assert made.default_status is schedule("weekly", "0 6 * * 1", "Mondays.").default_status is automation.SCHEDULES
    assert landing_zone.default_status is landed.default_status is automation.SENSORS
    assert (landing_zone.minimum_interval_seconds, landed.minimum_interval_seconds) == (30, 300)


def test_the_daemon_makes_up_for_one_time_and_runs_again_only_what_was_killed(settings: Settings) -> None:
    said = configuration(settings)
    assert said["scheduler"]["config"] == {"max_catchup_runs": 1}
    assert said["run_retries"] == {"enabled": True, "max_retries": 1, "retry_on_asset_or_op_failure": False}
    assert said["run_monitoring"]["max_runtime_seconds"] == 12 * 3600
    assert said["concurrency"] == {
        "pools": {"default_limit": 1, "granularity": "run"},
        "runs": {"max_concurrent_runs": 1},
    }
    assert {asset.op.pool for asset in loaders(partitions(None))} == {"warehouse"}
