"""Freshness is about what came: a load that looked and found nothing does not count, wherever somebody asks."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from granary.cli.health import look
from granary.load.api import load_table
from granary.load.days_off import NONE
from granary.load.freshness import freshness
from granary.load.newest import zone
from granary.sources.spec import Column
from granary.warehouse.connection import connect, execute
from tests.python.support.shop import Shop, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings

DAY = timedelta(days=1)
LONG_AGO = datetime(2020, 2, 28, 12, tzinfo=timezone.utc)
MERGED: dict[str, Any] = {"disposition": "merge", "key": ("id",)}


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Shop]:
    """Return a function that opens the shop under a contract that expects something new every day."""

    def opened(**contract: Any) -> Shop:
        found = Shop()
        for module in ("api", "freshness"):
            monkeypatch.setattr(f"granary.load.{module}.SOURCES", {"shop": found.source(table(**contract))})
        monkeypatch.setattr("granary.load.freshness.days_off", lambda: NONE)  # whatever day it is today
        return found

    return opened


def days_pass(warehouse: Settings, days: int) -> None:
    """Make all that happened so far happen that much earlier."""
    with connect(warehouse) as connection:
        execute(
            connection,
            f"update ops.load_audit set started_at = started_at - interval '{days} days',"
            f" finished_at = finished_at - interval '{days} days'",
        )
        connection.commit()


def silent_days(warehouse: Settings) -> int:
    (one,) = freshness(warehouse)
    return round(one.age / DAY)


def test_a_source_without_a_new_file_falls_silent_though_it_is_looked_at(
    warehouse: Settings, shop: Callable[..., Shop]
) -> None:
    delivered = shop()
    delivered.put("monday", {"id": [1]})
    load_table(warehouse, "shop", "orders")
    days_pass(warehouse, 2)
    assert load_table(warehouse, "shop", "orders").status == "unchanged"
    load_table(warehouse, "shop", "orders", full_refresh=True)  # the same file once more is nothing new
    (late,) = freshness(warehouse)
    assert late.is_late
    assert "shop.orders: nothing new for 48 hours" in str(late)
    assert str(late).endswith("and its contract allows 24 hours")
    found = look(warehouse)
    assert [one["is_late"] for one in found.loads] == [True]
    assert not found.well
    delivered.put("monday", {"id": [1, 2]}, fingerprint="corrected")
    load_table(warehouse, "shop", "orders")
    assert silent_days(warehouse) == 0
    assert look(warehouse).well


def test_a_window_past_the_cursor_counts_when_it_moves(warehouse: Settings, shop: Callable[..., Shop]) -> None:
    delivered = shop(**MERGED, cursor="id")
    delivered.put("id >= 1", {"id": [1, 2]}, fingerprint=None)
    load_table(warehouse, "shop", "orders")
    days_pass(warehouse, 3)
    assert load_table(warehouse, "shop", "orders").rows_read == 2
    load_table(warehouse, "shop", "orders", full_refresh=True)
    assert silent_days(warehouse) == 3
    delivered.put("id >= 1", {"id": [2, 3]}, fingerprint=None)
    load_table(warehouse, "shop", "orders")
    assert silent_days(warehouse) == 0


def test_a_row_that_is_refused_again_is_nothing_new(warehouse: Settings, shop: Callable[..., Shop]) -> None:
    delivered = shop(**MERGED, cursor="id")
    delivered.put("id >= 1", {"id": [1, None]}, fingerprint=None)
    load_table(warehouse, "shop", "orders")
    days_pass(warehouse, 3)
    load_table(warehouse, "shop", "orders")
    assert silent_days(warehouse) == 3


def test_a_table_that_is_read_whole_is_as_old_as_what_it_last_changed(
    warehouse: Settings, shop: Callable[..., Shop]
) -> None:
    delivered = shop(**MERGED | {"disposition": "replace"})
    delivered.put("orders", {"id": [1]}, fingerprint=None)
    load_table(warehouse, "shop", "orders")
    days_pass(warehouse, 3)
    assert load_table(warehouse, "shop", "orders").status == "unchanged"
    assert silent_days(warehouse) == 3
    delivered.put("orders", {"id": [1, 2]}, fingerprint=None)
    load_table(warehouse, "shop", "orders")
    assert silent_days(warehouse) == 0


def test_an_old_day_that_is_loaded_today_is_new_and_its_data_are_old(
    warehouse: Settings, shop: Callable[..., Shop]
) -> None:
    today = datetime.now(zone()).date()
    delivered = shop(partition="day")
    delivered.put("march", {"id": [1]}, date=today - timedelta(days=9))
    load_table(warehouse, "shop", "orders")
    (late,) = freshness(warehouse)
    assert (late.is_silent, late.is_late) == (False, True)
    age = late.data_age / timedelta(days=1)
    assert 7.9 <= age <= 9.1  # an hour more or less where clocks were changed
    days = round(age)  # it depends on the time of the day
    assert f"its newest data are {days} days old" in str(late)
    assert not look(warehouse).well
    delivered.put("today", {"id": [2]}, date=today)
    load_table(warehouse, "shop", "orders")
    assert look(warehouse).well


def test_of_a_history_that_has_ended_only_the_loads_are_judged(
    warehouse: Settings, shop: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered = shop(partition="day")
    delivered.put("long ago", {"id": [1]}, date=date(2017, 12, 31))
    load_table(warehouse, "shop", "orders")
    assert freshness(warehouse)[0].is_late
    monkeypatch.setenv("GRANARY_LAST_DATE", "2017-12-31")
    assert not freshness(warehouse)[0].is_late
    days_pass(warehouse, 2)
    assert freshness(warehouse)[0].is_late


def test_the_newest_data_of_a_cursor_are_its_newest_instant(warehouse: Settings, shop: Callable[..., Shop]) -> None:
    changed = Column("changed_at", pa.timestamp("us", tz="UTC"), "When it changed.")
    found = Shop()
    found.put("all", {"id": [1, 2], "changed_at": [LONG_AGO, LONG_AGO + DAY]}, fingerprint=None)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("api", "freshness"):
            source = found.source(table(changed, **MERGED, cursor="changed_at"))
            patch.setattr(f"granary.load.{module}.SOURCES", {"shop": source})
        load_table(warehouse, "shop", "orders")
        (one,) = freshness(warehouse)
    assert one.data_at == LONG_AGO + DAY


def test_before_the_first_file_the_time_runs_from_the_first_look(
    warehouse: Settings, shop: Callable[..., Shop]
) -> None:
    shop()
    assert freshness(warehouse) == []
    load_table(warehouse, "shop", "orders")
    assert not freshness(warehouse)[0].is_late
    days_pass(warehouse, 2)
    load_table(warehouse, "shop", "orders")
    assert freshness(warehouse)[0].is_late
