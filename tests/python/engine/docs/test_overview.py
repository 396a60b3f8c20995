"""The overview that a project has from its first mart on: what it reads, and that nobody's values are among it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from granary.dbt import manifest
from granary.pages.dashboard.overview import overview
from granary.pages.dashboard.read import read
from granary.warehouse.connection import connect, execute

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

NUMBER, WORD = 909090909, "canary"
RIDES = f"""
    create table marts.fct_rides as
    select date '2026-03-12' + n as business_date, {NUMBER}::bigint as income, '{WORD}'::text as rider, 5 as rides
    from generate_series(0, 1) as n
"""
BIRTHS = f"create table marts.dim_rider as select date '1909-09-09' as born, '{WORD}'::text as rider"


def mart(name: str, columns: dict[str, str | None], **meta: object) -> dict[str, Any]:
    """Return a mart as dbt's manifest has it; `columns` says of each its tier."""
    return {
        "name": name,
        "alias": name,
        "resource_type": "model",
        "schema": "build",
        "fqn": ["granary", "marts", name],
        "path": f"marts/{name}.sql",
        "original_file_path": f"models/marts/{name}.sql",
        "tags": [],
        "description": "",
        "config": {"meta": meta, "schema": "build", "materialized": "table"},
        "meta": meta,
        "columns": {
            column: {"name": column, "config": {"meta": {"personal": tier} if tier else {}}, "meta": {}}
            for column, tier in columns.items()
        },
    }


@pytest.fixture
def marts(warehouse: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return a warehouse with two marts, in which a measure and the only date of one are personal."""
    with connect(warehouse, autocommit=True) as connection:
        execute(connection, "create schema if not exists marts")
        execute(connection, RIDES)
        execute(connection, BIRTHS)
        execute(connection, "grant usage on schema marts to transformer")
        execute(connection, "grant select on all tables in schema marts to transformer")
    rides = {"business_date": None, "income": "demographic", "rider": "identifier", "rides": None}
    nodes = {
        "model.granary.fct_rides": mart("fct_rides", rides, measures=["income", "rides"]),
        "model.granary.dim_rider": mart(
            "dim_rider", {"born": "identifier", "rider": "identifier"}, business_date="date_trunc('day', born)"
        ),
    }
    monkeypatch.setattr(manifest, "prepare", lambda _: None)
    monkeypatch.setattr(manifest, "load", lambda _: {"nodes": nodes})
    return warehouse


def test_the_overview_has_no_personal_value(marts: Settings) -> None:
    page = overview()
    found = read(marts, page.datasets, lambda _: None)
    assert found["fct_rides_days"].rows == [["2026-03-12", 1, 5], ["2026-03-13", 1, 5]]
    assert "dim_rider_days" not in found
    text = json.dumps([(one.columns, one.rows, one.sql) for one in found.values()], default=str)
    assert not [one for one in (str(NUMBER), WORD, "1909-09-09") if one in text]
