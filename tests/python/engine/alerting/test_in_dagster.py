"""Incidents on the pages of assets: said once when they open, become other or are over, where the cause is."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from granary.cli import health, output
from granary.dagster.incident_events import incidents_of_assets
from granary.dagster.resources import Warehouse
from tests.python.engine.alerting.conftest import NOW, built, loaded
from tests.python.engine.alerting.test_incidents import look

if TYPE_CHECKING:
    import pytest

    from granary.warehouse.settings import Settings

KEYS = (["till", "receipts"], ["till", "prices"], ["staging", "stg_receipts"], ["marts", "m39"], ["marts", "m38"])


def said(cursor: str | None) -> tuple[list[tuple[str, str | None, Any]], str]:
    """Return what the sensor says of which asset, with the number of the incident, and its cursor."""
    assets = [dg.AssetSpec(dg.AssetKey(key)) for key in KEYS]
    repository = dg.Definitions(assets=assets, resources={"warehouse": Warehouse()}).get_repository_def()
    with dg.build_sensor_context(
        cursor=cursor, repository_def=repository, resources={"warehouse": Warehouse()}
    ) as context:
        result = incidents_of_assets(context)
    assert isinstance(result, dg.SensorResult)
    events = [
        (event.asset_key.to_user_string(), event.description, event.metadata["incident"].value)
        for event in result.asset_events
    ]
    return events, str(result.cursor)


def test_an_asset_says_its_incidents_once_and_when_they_are_over(watched: Settings) -> None:
    loaded(watched, "prices", "failed", NOW, "the disk is full")
    built(watched, NOW, m39="error")
    look(watched)
    events, cursor = said(None)
    assert sorted(events) == [
        ("marts/m39", "[warning] New: m39 failed", 2),
        ("till/prices", "[warning] New: till.prices cannot be loaded", 1),
    ]
    assert said(cursor)[0] == []
    loaded(watched, "prices", "loaded", NOW)
    look(watched, timedelta(hours=2))
    events, cursor = said(cursor)
    assert events == [("till/prices", "[warning] Over: till.prices is loaded again", 1)]
    assert said(cursor)[0] == []


def assets() -> list[str]:
    return [asset for asset, _, _ in said(None)[0]]


def test_of_a_source_all_its_tables_say_it(watched: Settings) -> None:
    for table in ("receipts", "prices"):
        loaded(watched, table, "failed", NOW, "the service refuses our key (401)")
    look(watched)
    assert assets() == ["till/prices", "till/receipts"]


def test_of_a_test_the_marts_behind_it_say_it(watched: Settings) -> None:
    built(watched, NOW, m2_unique="fail")
    look(watched)
    assert assets() == ["marts/m38", "marts/m39"]


def test_status_names_the_incidents_that_are_open(
    watched: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output.console, "width", 200)
    built(watched, NOW, m39="error")
    loaded(watched, "prices", "failed", NOW, "the disk is full")
    look(watched)
    found = health.look(watched)
    assert [(one["incident_id"], one["severity"], one["cause"]) for one in found.incidents] == [
        (2, "warning", "m39"),
        (1, "warning", "till.prices"),
    ]
    output.health(found)
    assert (
        "Incidents: m39 (warning, #2), till.prices (warning, #1): `granary incidents list`" in capsys.readouterr().out
    )
