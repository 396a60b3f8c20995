"""What the daemon is promised to do between the runs, when, and what it does not do by itself."""

from __future__ import annotations

import runpy

import dagster as dg
import pytest

from granary.dagster import schedules
from granary.dagster.sensors import SENSORS, rest_of_runs


def test_what_looks_after_dead_runs_freshness_and_rests_is_on_from_the_beginning() -> None:
    sensors = {sensor.name: sensor for sensor in (*SENSORS, rest_of_runs([]))}
    assert {name: sensor.default_status for name, sensor in sensors.items()} == dict.fromkeys(
        ("dead_runs", "freshness", "rest_of_runs"), dg.DefaultSensorStatus.RUNNING
    )
    assert sensors["dead_runs"].minimum_interval_seconds == 30
    assert sensors["freshness"].minimum_interval_seconds == 15 * 60


@pytest.mark.parametrize(("setting", "status"), [({}, "STOPPED"), ({"GRANARY_SCHEDULES": "running"}, "RUNNING")])
def test_schedules_run_where_a_deployment_says_so(
    monkeypatch: pytest.MonkeyPatch, setting: dict[str, str], status: str
) -> None:
    monkeypatch.delenv("GRANARY_SCHEDULES", raising=False)
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    made = runpy.run_path(str(schedules.__file__))["daily_schedule"]("daily", "30 5 * * *", "Every morning.")
    assert made.default_status.value == status
