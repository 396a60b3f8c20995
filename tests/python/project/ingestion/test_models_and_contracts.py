"""Contracts and models agree: what staging casts is bounded."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
import yaml

from granary.sources.discovery import SOURCES
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

    from granary.sources.spec import Table

TICK = timedelta(microseconds=1)
CAST = re.compile(r"cast\(\s*(\w+) as (integer|smallint|numeric\((\d+), (\d+)\))\s*\)")
STAGING = sorted((PROJECT / "models/staging").glob("*/stg_*.sql"))


def contract_of(model: Path) -> Table:
    """Return the contract of the source table that a staging model reads."""
    source, name = re.findall(r"source\('(\w+)', '(\w+)'\)", model.read_text())[0]
    return SOURCES[source].table(name)


@pytest.mark.parametrize("model", STAGING, ids=lambda path: path.stem)
def test_what_staging_casts_is_bounded_by_the_contract(model: Path) -> None:
    contract = contract_of(model)
    for name, kind, precision, scale in CAST.findall(model.read_text()):
        column = contract.column(name)
        assert column.minimum is not None, f"{name} is cast to {kind}: its contract has no minimum"
        assert column.maximum is not None, f"{name} is cast to {kind}: its contract has no maximum"
        largest = {"integer": 2**31 - 1, "smallint": 2**15 - 1}.get(kind)
        if largest is None:
            largest = 10 ** (int(precision) - int(scale)) - 1
        assert isinstance(column.minimum, int)
        assert isinstance(column.maximum, int)
        # Models add lines up: a thousand of the largest still fit.
        assert -largest <= column.minimum * 1000
        assert column.maximum * 1000 <= largest


@pytest.mark.parametrize("model", STAGING, ids=lambda path: path.stem)
def test_instants_and_dates_are_bounded(model: Path) -> None:
    for column in contract_of(model).columns:
        if pa.types.is_temporal(column.type):
            assert column.minimum is not None, column.name
            assert column.maximum is not None, column.name


def test_business_dates_are_those_of_the_marts_calendar() -> None:
    said = yaml.safe_load((PROJECT / "dbt_project.yml").read_text())["vars"]
    zone = ZoneInfo("America/New_York")
    first = datetime.fromisoformat(said["calendar_start"]).replace(tzinfo=zone)
    end = (datetime.fromisoformat(said["calendar_end"]) + timedelta(days=1)).replace(tzinfo=zone)
    sold = SOURCES["pos"].table("transactions").column("transaction_timestamp")
    redeemed = SOURCES["events"].table("coupon_redemptions").column("occurred_at")
    assert isinstance(sold.minimum, datetime)
    assert isinstance(sold.maximum, datetime)
    for low, high in (
        (sold.minimum.replace(tzinfo=timezone.utc), sold.maximum.replace(tzinfo=timezone.utc)),
        (redeemed.minimum, redeemed.maximum),
    ):
        assert (low, high) == (first, end.astimezone(timezone.utc) - TICK)


def test_contracts_say_where_households_are() -> None:
    """Every column of this name says so."""
    columns = [column for source in SOURCES.values() for one in source.tables for column in one.columns]
    assert sum(column.subject == "household" for column in columns) == 4
    assert all(column.subject == "household" for column in columns if column.name == "household_id")
