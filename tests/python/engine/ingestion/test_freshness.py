"""Freshness is about what came: a load that looked and found nothing does not count, wherever somebody asks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from granary.cli.health import look
from granary.load.api import load_table
from granary.load.freshness import freshness
from granary.warehouse.connection import connect, execute
from tests.python.support.shop import Shop, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings

DAY = timedelta(days=1)
MERGED: dict[str, Any] = {"disposition": "merge", "key": ("id",)}


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Shop]:
    """Return a function that opens the shop under a contract that expects something new every day."""

    def opened(**contract: Any) -> Shop:
        found = Shop()
        for module in ("api", "freshness"):
            monkeypatch.setattr(f"granary.load.{module}.SOURCES", {"shop": found.source(table(**contract))})
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


def test_a_table_that_is_read_whole_is_confirmed_by_each_reading_that_finds_rows(
    warehouse: Settings, shop: Callable[..., Shop]
) -> None:
    delivered = shop(**MERGED | {"disposition": "replace"})
    delivered.put("orders", {"id": [1]}, fingerprint=None)
    load_table(warehouse, "shop", "orders")
    days_pass(warehouse, 3)
    assert load_table(warehouse, "shop", "orders").status == "unchanged"
    assert silent_days(warehouse) == 0


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
