"""Faults planted in deliveries are found by what came before, told in plain words, and over once they are put right."""

from __future__ import annotations

from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from granary.load import api as load
from granary.load.api import load_table
from granary.monitoring.anomalies import config, look, observe, watch
from granary.monitoring.anomalies.look import Look
from granary.monitoring.anomalies.records import lines
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.project import calendar
from tests.python.engine.anomalies.conftest import DAYS, FIRST, ORDERS, ROWS, TODAY, first, orders
from tests.python.support.shop import table

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings
    from tests.python.engine.anomalies.conftest import Watched

    Change = Callable[[dict[str, list[Any]]], dict[str, list[Any]]]
    Rows = Callable[..., list[tuple[Any, ...]]]


def _with(column: str, change: Callable[[int, Any], Any]) -> Change:
    return lambda rows: rows | {column: [change(n, value) for n, value in enumerate(rows[column])]}


FAULTS: dict[str, tuple[Change, str]] = {
    "half": (partial(first, 0.5), "100 rows, expected"),
    "double": (lambda rows: {name: values * 2 for name, values in rows.items()}, "400 rows, expected"),
    "empty": (partial(first, 0), "no rows came, expected"),
    "cents": (_with("amount", lambda _, value: value * 100), "the mean of amount is 2"),
    "zone": (_with("ordered_at", lambda _, value: value - timedelta(hours=5)), "ordered_at"),
    "nulls": (
        _with("pieces", lambda n, value: None if n % 10 == 0 else value),
        "10.0% of pieces is empty, expected 0.0%",
    ),
    "category": (_with("state", lambda n, value: "lost" if n % 8 == 0 else value), "new: 'lost' (12%)"),
    "swapped": (
        lambda rows: rows | {"amount": rows["discount"], "discount": rows["amount"]},
        "the mean of amount is 2.",
    ),
    "repeated": (_with("member", lambda n, _: f"member {n % 3}"), "member has 3 different values, expected"),
}


def test_faults_of_each_kind_are_found_and_over_once_put_right(shop: Watched, rows: Rows) -> None:
    assert shop.look() == Look()
    for kind, (change, words) in FAULTS.items():
        said = shop.deliver(TODAY, change(orders(TODAY)))
        assert len(said) == 1, (kind, said)
        assert said[0].startswith("shop.orders of Friday 2026-03-06: "), kind
        found = [one.message for one in look.look(shop.settings, "shop", ORDERS).open]
        assert any(words in message for message in found), (kind, found)
        assert shop.deliver(TODAY, orders(TODAY)) == []
        assert look.look(shop.settings, "shop", ORDERS).open == (), kind
    closed = "select distinct closed_because from ops.anomalies where day = $1"
    assert rows(closed, TODAY) == [("corrected",)]
    # Nothing that a person could be known by is in the records.
    assert rows(
        "select count(*) from ops.observations where column_name in ('member', 'e_mail') and shares is not null"
    ) == [(0,)]
    assert rows(
        "select distinct metric from ops.observations where column_name in ('member', 'e_mail') order by metric"
    ) == [("distinct",), ("nulls",)]


def test_a_missing_day_is_found_by_the_next_one_and_over_when_it_comes(shop: Watched) -> None:
    shop.look()
    tomorrow = TODAY + timedelta(days=1)
    (missing,) = shop.deliver(tomorrow, orders(tomorrow))
    assert missing.startswith("shop.orders of Friday 2026-03-06: no rows came, expected")
    assert shop.deliver(TODAY, orders(TODAY)) == []
    assert shop.look().open == ()


def test_looking_again_changes_nothing(shop: Watched, rows: Rows) -> None:
    shop.look()
    assert len(shop.deliver(TODAY, first(0.5, orders(TODAY)))) == 1
    every = "select * from ops.anomalies order by anomaly_id"
    before = rows(every)
    again = shop.look()
    assert (len(again.open), again.new) == (len(before), ())
    assert rows(every) == before


def test_the_first_fourteen_days_are_quiet_and_say_so(warehouse: Settings, shop: Watched) -> None:
    everything = dict(shop.shop.units_by_name)
    shop.shop.units_by_name = dict(list(everything.items())[:10])
    assert shop.look().quiet == 4
    day = FIRST + timedelta(days=10)
    assert shop.deliver(day, first(0.1, orders(day))) == []
    shop.shop.units_by_name = dict(list(everything.items())[:14])
    assert shop.look() == Look()


def test_what_nobody_corrects_is_over_after_seven_more_days(shop: Watched, rows: Rows) -> None:
    shop.look()
    shop.deliver(TODAY, first(0.5, orders(TODAY)))
    for n in range(1, 7):
        day = TODAY + timedelta(days=n)
        shop.deliver(day, orders(day))
    assert shop.look().open
    shop.deliver(TODAY + timedelta(days=7), orders(TODAY + timedelta(days=7)))
    assert shop.look().open == ()
    assert rows("select distinct closed_because from ops.anomalies") == [("passed",)]


def test_a_full_refresh_is_no_news(shop: Watched, rows: Rows) -> None:
    shop.put(FIRST + timedelta(days=30), first(0.2, orders(FIRST + timedelta(days=30))))
    assert shop.look().open == ()  # it was history when it came
    before = rows("select day, column_name, metric, value from ops.observations order by 1, 2, 3")
    load_table(shop.settings, "shop", "orders", full_refresh=True)
    assert look.look(shop.settings, "shop", ORDERS) == Look()
    assert rows("select day, column_name, metric, value from ops.observations order by 1, 2, 3") == before


def test_what_comes_late_is_told_in_hours(shop: Watched) -> None:
    def comes(day: date, hours: int) -> list[str]:
        shop.put(day, orders(day))
        load_table(shop.settings, "shop", "orders")
        with connect(shop.settings) as connection:
            execute(
                connection,
                "update ops.load_audit set started_at = ($1::timestamp at time zone $3)"
                " + make_interval(hours => 24 + $2) where unit = $1::date::text",
                day.isoformat(),
                hours,
                calendar().time_zone,
            )
            connection.commit()
        return lines(look.look(shop.settings, "shop", ORDERS).new)

    shop.shop.units_by_name.clear()
    said = [comes(TODAY + timedelta(days=n), 6) for n in range(20)]
    assert said == [[]] * 20
    assert comes(TODAY + timedelta(days=20), 30) == [
        "shop.orders of Thursday 2026-03-26: came 30 hours after the day had ended, expected at most 12"
    ]
    assert comes(TODAY + timedelta(days=21), 6) == []
    with connect(shop.settings) as connection:
        closed = query(connection, "select metric, closed_because from ops.anomalies")
    assert closed == [("lateness", "passed")]  # a day in time has come


def test_what_is_muted_is_kept_and_not_told(shop: Watched, monkeypatch: pytest.MonkeyPatch, rows: Rows) -> None:
    said = {"anomalies": {"mute": [{"table": "shop.orders", "metric": "rows"}]}}
    shop.look()
    monkeypatch.setattr(config, "project_vars", lambda: said)
    config.config.cache_clear()
    found = shop.deliver(TODAY, first(0.5, orders(TODAY)))
    assert not any("rows" in words for words in found)
    assert rows("select muted from ops.anomalies where metric = 'rows'") == [(True,)]
    said.clear()
    config.config.cache_clear()
    assert "rows" in {one.metric for one in shop.look().open}


def test_of_large_days_a_part_is_looked_at_and_rows_are_exact(
    shop: Watched, monkeypatch: pytest.MonkeyPatch, rows: Rows
) -> None:
    monkeypatch.setattr(observe, "SAMPLE", 100)
    assert shop.look() == Look()
    assert rows("select min(value), max(value) from ops.observations where metric = 'rows'") == [(200, 200)]
    seen = rows("select min(value), max(value) from ops.observations where column_name = 'id' and metric = 'distinct'")
    assert 60 < seen[0][0] <= seen[0][1] < 140


def test_no_load_fails_because_it_cannot_be_looked_at(shop: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOCK_SECONDS", 0.2)
    with connect(shop.settings) as other:
        execute(other, "lock table ops.observations in access exclusive mode")
        load_table(shop.settings, "shop", "orders")
        with connect(shop.settings) as connection:
            execute(connection, "alter role loader set lock_timeout = '200ms'")
            connection.commit()
        found = look.look(shop.settings, "shop", ORDERS)
        assert "anomalies of shop.orders cannot be looked for" in found.problem
        with connect(shop.settings) as connection:
            assert query(connection, "select count(*) from raw_shop.orders") == [(DAYS * ROWS,)]
            execute(connection, "alter role loader reset lock_timeout")
            connection.commit()
    assert look.look(shop.settings, "shop", ORDERS) == Look()


def test_units_without_a_day_are_compared_with_the_units_before(
    warehouse: Settings, shop: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = table(*ORDERS.columns[1:])
    shop.shop.units_by_name.clear()
    for n in range(20):
        shop.shop.put(f"week-{n:02}", orders(FIRST + timedelta(days=n)), fingerprint=str(n))
    monkeypatch.setitem(load.SOURCES, "shop", shop.shop.source(contract))  # type: ignore[arg-type]
    load_table(warehouse, "shop", "orders")
    assert look.look(warehouse, "shop", contract) == Look()
    shop.shop.put("week-20", first(0.4, orders(FIRST)), fingerprint="20")
    load_table(warehouse, "shop", "orders")
    (found,) = lines(look.look(warehouse, "shop", contract).new)
    assert found.startswith("shop.orders of week-20: 80 rows, expected")


def test_rows_that_a_cursor_reads_again_are_no_news(warehouse: Settings) -> None:
    past_cursor = table(disposition="merge", key=("id",), cursor="id")
    with connect(warehouse) as connection:
        for day, before, after, brought in ((1, None, "9", 900), (2, "9", "9", 900), (3, "9", "12", 4)):
            execute(
                connection,
                "insert into ops.load_audit (load_id, run_id, source, table_name, unit, status, rows_read, rows_loaded,"
                " rows_quarantined, rows_deleted, bytes, seconds, watermark_before, watermark_after, started_at)"
                " values ($1::bigint, 'r', 'shop', 'orders', 'u', 'loaded', $2::bigint, $2::bigint, 0, 0, 0, 0, $3, $4,"
                " date '2026-03-01' + $1::int)",
                *(day, brought, before, after),
            )
        found = observe.groups(connection, "shop", past_cursor, "UTC")
    assert [(one.day.day, one.rows, one.load_ids) for one in found] == [(3, 0, ()), (4, 4, (3,))]
