"""The page of operation on a ledger that was made: what it shows was worked out, and it is nobody's value."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.base import AXE_FILE_PATH

from granary.dagster.links import Links
from granary.pages.dashboard.html import SCRIPT, render, script
from granary.pages.dashboard.operation import PAGE
from granary.pages.dashboard.parts import STATE
from granary.pages.dashboard.read import Rows, read
from granary.warehouse.connection import connect, query
from tests.python.support.browser import reader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from granary.warehouse.settings import Settings
    from tests.python.conftest import Make

WRITTEN = "2026-03-12 06:00"
SECRET = "canary"
"""In every text that is not to be shown: words of errors, and who somebody is."""
SIGNALS = json.dumps(
    [
        {"kind": "source_late", "subject": "shop.orders", "detail": SECRET, "since": None},
        {"kind": "load_failed", "subject": "shop.orders", "detail": SECRET, "since": None},
    ]
)
RUN = "insert into ops.runs (run_id, kind, name, started_at, finished_at, status, cause, started_by, parent_run_id)"
STEP = "insert into ops.steps (run_id, kind, name, relation, is_full, seconds, row_count, status, finished_at)"
LEDGER = f"""
    {RUN} values
        ('r1', 'job', 'daily', now() - interval '2 days', now() - interval '2 days' + interval '65 seconds',
            'succeeded', null, 'user {SECRET}', null),
        ('r2', 'job', 'daily', now() - interval '1 day', now() - interval '1 day' + interval '2 hours 3 minutes',
            'failed', '{SECRET}', 'schedule nightly', null),
        ('r3', 'dbt', 'build', now() - interval '1 day', now() - interval '1 day' + interval '1 hour',
            'failed', '{SECRET}', 'schedule nightly', 'r2'),
        ('r0', 'job', 'daily', now() - interval '31 days', now() - interval '31 days', 'failed', null, null, null);
    {STEP} values
        ('r1', 'model', 'stg_orders', 'staging.stg_orders', false, 10, 100, 'succeeded', now() - interval '2 days'),
        ('r2', 'model', 'stg_orders', 'staging.stg_orders', false, 30, 300, 'succeeded', now() - interval '1 day'),
        ('r2', 'model', 'fct_orders', 'build.fct_orders', false, 160, 0, 'succeeded', now() - interval '1 day'),
        ('r2', 'test', 'unique_orders', 'raw_shop.orders', false, 1, 0, 'succeeded', now() - interval '1 day'),
        ('r2', 'test', 'orders_in_range', 'raw_shop.orders', false, 1, 7, 'failed', now() - interval '1 day');
    insert into ops.load_audit (load_id, run_id, source, table_name, unit, fingerprint, status, rows_read, rows_loaded,
        rows_quarantined, rows_deleted, bytes, seconds, started_at, finished_at, is_new, data_at)
    values
        (1, 'l', 'shop', 'orders', 'a', 'a', 'loaded', 1000, 900, 100, 0, 5000, 4, now() - interval '3 hours',
            now() - interval '3 hours', true, now() - interval '4 hours'),
        (2, 'l', 'till', 'sales', 'b', 'b', 'loaded', 50, 50, 0, 0, 500, 2, now() - interval '1 hour',
            now() - interval '1 hour', true, now() - interval '2 hours');
    insert into ops.objectives (relation, source, owner, fresh_seconds) values
        ('raw_shop.orders', 'shop', 'the shop', 7200), ('raw_till.sales', 'till', 'the tills', 14400);
    insert into ops.publishes (schema_name, invocation_id, started_at, finished_at, marts, rows_inserted, rows_deleted,
        last_date, loads_seen)
    values ('marts', 'i', now() - interval '2 hours', now() - interval '1 hour', '{{sales}}', 5, 0, '2026-03-11',
        '{{"shop": 1}}');
    insert into ops.incidents (cause, severity, owner, signals, affected, since, opened_at, updated_at, acked_at,
        acked_by, closed_at)
    values
        ('shop.orders', 'critical', 'the shop', '{SIGNALS}', jsonb_build_array(
            jsonb_build_object('kind', 'mart', 'name', 'sales', 'published_at', now() - interval '1 hour'),
            jsonb_build_object('kind', 'use', 'name', 'report', 'published_at', null)
        ), now() - interval '50 hours', now(), now(), now(), '{SECRET}', null),
        ('till', 'warning', 'the tills', '{SIGNALS}', '[]', now() - interval '3 days', now(), now(), null, null,
            now() - interval '2 days'),
        ('old', 'warning', 'nobody', '{SIGNALS}', '[]', now() - interval '40 days', now(), now(), null, null,
            now() - interval '31 days');
    insert into ops.quarantine (source, table_name, unit, row_number, column_name, reason, payload, contract_version,
        load_id, identity, status, first_seen_at, last_seen_at)
    select 'shop', 'orders', 'a', n, 'sold_at', '{SECRET}', '{{"name": "{SECRET}"}}', 1, 1, n::text,
        case when n <= 2 then 'open' else 'replayed' end, now() - n * interval '1 day', now()
    from generate_series(1, 3) as n;
    insert into ops.lags (source, kind, part, message_count, byte_count, seconds, seen_at) values
        ('till', 'stream', 'sales[0]', 40, null, 90, now() - interval '1 minute'),
        ('ledger', 'slot', 'granary_ledger', null, 2500000, 0, now() - interval '1 minute');
    insert into ops.backup_state (place, every_seconds, drill_seconds, log_at)
    values ('/mnt', 86400, 604800, now() - interval '20 seconds');
    insert into ops.backups (kind, name, place, started_at, finished_at, succeeded, byte_count)
    select kind, 'x', '/mnt', now() - age, now() - age, kind = 'full', 5000
    from (values ('full', interval '3 days'), ('drill', interval '1 day')) as made (kind, age);
    delete from ops.table_sizes;
    insert into ops.table_sizes (measured_on, relation, byte_count, row_count)
    select current_date - age, relation, size * (11 - age), 10
    from (values (10), (0)) as days (age)
    cross join (values ('raw_shop.orders', 1000000), ('raw_till.sales', 500000), ('marts.sales', 1000))
        as sizes (relation, size)
"""


@pytest.fixture(scope="module")
def empty(make_warehouse: Make, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Return a warehouse of a project that has no query of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("granary.pages.dashboard.read.QUERIES", tmp_path_factory.mktemp("queries"))
        yield make_warehouse("operation")


@pytest.fixture(scope="module")
def nothing(empty: Settings) -> dict[str, Rows]:
    """Return what the page reads of a warehouse in which nothing has run."""
    return read(empty, (STATE, *PAGE.datasets), lambda _: None)


@pytest.fixture(scope="module")
def found(empty: Settings, nothing: dict[str, Rows]) -> dict[str, Rows]:
    """Return what it reads once the ledger has the rows above."""
    assert nothing
    with connect(empty, autocommit=True) as connection:
        connection.execute(LEDGER.encode())
    return read(empty, (STATE, *PAGE.datasets), lambda _: None)


def written(data: dict[str, Rows], folder: Path) -> Path:
    (folder / SCRIPT).write_text(script())
    (folder / f"{PAGE.name}.html").write_text(render(PAGE, [PAGE], data, Links(), WRITTEN))
    return folder


def days_ago(settings: Settings, *ages: int) -> list[str]:
    with connect(settings) as connection:
        ((today,),) = query(connection, "select (now() at time zone 'UTC')::date")
    assert isinstance(today, date)
    return [(today - timedelta(days=age)).isoformat() for age in ages]


def part(found: dict[str, Rows], name: str, *columns: str) -> list[list[object]]:
    """Return some columns of a data set; ages to the hour, since they grow from when the rows were made."""
    rows = found[f"operation_{name}"]
    places = [rows.columns.index(column) for column in columns]
    return [[_worked_out(rows.columns[place], row[place]) for place in places] for row in rows.rows]


def _worked_out(column: str, value: object) -> object:
    if not isinstance(value, float):
        return value
    return round(value / 3600) if column in AGES else round(value, 2)


AGES = ("age", "data_age", "oldest_age", "open_for")


def test_how_it_stands_now(found: dict[str, Rows]) -> None:
    """Of 24 hours: two loads and the publish went well. Of 1,050 rows 100 are refused, and one of two checks fails.

    Latency: the load of the shop began within a week of its data, 4 hours ago, and was published an hour ago.
    """
    score = round((1 - 100 / 1050) * 0.5, 2)
    assert part(
        found,
        "now",
        "open_incidents",
        "late_tables",
        "quality_score",
        "latency_p95",
        "rows_quarantined",
        "success_rate",
    ) == [[1, 1, score, 10800.0, 2, 1.0]]


def test_incidents_are_told_in_words_and_those_long_over_are_not(found: dict[str, Rows]) -> None:
    shown = ("what", "state", "severity", "signal_count", "mart_count", "next_command")
    assert part(found, "incidents", *shown) == [
        ["shop.orders is late", "open, taken up", "critical", 2, 1, "granary incidents show 1"],
        ["source till is late", "over", "warning", 2, 0, "granary incidents show 2"],
    ]
    assert part(found, "incidents", "open_for", "oldest_age") == [[50, 1], [24, None]]


def test_runs_within_another_and_older_ones_do_not_count(empty: Settings, found: dict[str, Rows]) -> None:
    yesterday, before = days_ago(empty, 1, 2)
    assert part(found, "run_days", "day", "status", "run_count") == [[before, "succeeded", 1], [yesterday, "failed", 1]]
    assert part(found, "runs", "run_id", "seconds", "started_by") == [
        ["r2", 7380.0, "schedule nightly"],
        ["r1", 65.0, "a person"],
    ]


def test_a_source_stands_against_what_is_agreed(found: dict[str, Rows]) -> None:
    assert part(found, "freshness", "source_table", "state", "age", "objective", "data_age", "last_load") == [
        ["shop.orders", "late", 3, 7200.0, 4, "loaded"],
        ["till.sales", "in time", 1, 14400.0, 2, "loaded"],
    ]


def test_quality_throughput_latency_and_costs_are_worked_out(empty: Settings, found: dict[str, Rows]) -> None:
    assert part(found, "quality", "relation", "rows_refused", "checks_failed", "quality_score") == [
        ["raw_shop.orders", 100, 1, 0.45],
        ["raw_till.sales", 0, 0, 1.0],
    ]
    yesterday, before = days_ago(empty, 1, 2)
    stages = part(found, "stages", "day", "stage", "activity_count", "succeeded_count", "row_count", "seconds")
    assert [row for row in stages if row[1] in ("build", "test")] == [
        [before, "build", 1, 1, 100, 10.0],
        [yesterday, "build", 2, 2, 300, 190.0],
        [yesterday, "test", 2, 1, None, 2.0],
    ]
    assert part(found, "latency", "source", "load_count", "event_seconds_p50", "load_seconds_p95") == [
        ["shop", 1, 10800.0, 7200.0]
    ]
    assert part(found, "costs", "name", "seconds", "share", "seconds_p50", "last_to_median") == [
        ["fct_orders", 160.0, 0.8, 160.0, 1.0],
        ["stg_orders", 40.0, 0.2, 20.0, 1.5],
    ]
    assert part(found, "trends", "name", "day", "place", "seconds_p50") == [
        ["fct_orders", yesterday, 1, 160.0],
        ["stg_orders", before, 2, 10.0],
        ["stg_orders", yesterday, 2, 30.0],
    ]


def test_quarantine_lags_and_storage_are_worked_out(empty: Settings, found: dict[str, Rows]) -> None:
    assert part(found, "quarantine", "source_table", "status", "row_count", "oldest_age") == [
        ["shop.orders", "open", 2, 48],
        ["shop.orders", "replayed", 1, 72],
    ]
    assert part(found, "lags", "part", "kind", "seconds", "message_count", "byte_count") == [
        ["till sales[0]", "stream", 90.0, 40, None],
        ["ledger granary_ledger", "slot", 0.0, None, 2500000],
    ]
    with connect(empty) as connection:
        ((today, then),) = query(connection, "select current_date::text, (current_date - 10)::text")
    assert part(found, "storage", "day", "schema_name", "byte_count") == [
        [then, "marts", 1000.0],
        [then, "raw", 1_500_000.0],
        [today, "marts", 11_000.0],
        [today, "raw", 16_500_000.0],
    ]
    assert part(found, "tables", "relation", "byte_count", "bytes_per_day")[0] == [
        "raw_shop.orders",
        11_000_000,
        1_000_000.0,
    ]


def test_it_draws_and_says_what_it_read(chromium: Browser, found: dict[str, Rows], tmp_path: Path) -> None:
    """On a desk: figures, headings and cells in words that people use, a drawing for each chart, a choice of source."""
    with reader(chromium, written(found, tmp_path)) as browser:
        browser.open(PAGE.name)
        figures = browser.figures()
        assert (figures["Open incidents"], figures["Tables that are late"], figures["Latency"]) == ("1", "1", "3 h")
        assert figures["Quality score"] == "45.2%"
        assert str(browser.tab.text_content(".state")).startswith("Data up to 2026-03-11 · published 20")
        assert f"written {WRITTEN} UTC (" in str(browser.tab.text_content(".state"))
        assert browser.heading("incidents") == "1 incident is open: shop.orders is late"
        assert browser.heading("run-days") == "1 run of 2 failed in 30 days"
        assert browser.heading("freshness") == "Late: shop.orders"
        assert browser.heading("lags") == "till sales[0] is farthest behind"
        assert browser.heading("backups") == "the backup is late, the drill failed"
        for chart in PAGE.charts:
            if chart.draw:
                marks = browser.tab.locator(", ".join(f"#{chart.name} svg .mark-{one} path" for one in MARKS))
                assert marks.count() > 0, chart.name
        assert [row[4] for row in browser.table("runs")] == ["2 h 3 min", "1 min 5 s"]
        assert [row[2:5] for row in browser.table("lags")] == [["1 min 30 s", 40, None], ["0.0 s", None, "2.5 MB"]]
        browser.choose("source", "till")
        assert [row[0] for row in browser.table("freshness")] == ["till.sales"]
        assert [row[0] for row in browser.table("quality")] == ["raw_till.sales"]


MARKS = ("rect", "symbol", "line")


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_it_without_moving_sideways_and_all_can_read_it(
    chromium: Browser, found: dict[str, Rows], tmp_path: Path, dark: bool
) -> None:
    with reader(chromium, written(found, tmp_path), 390, dark=dark) as browser:
        browser.open(PAGE.name)
        browser.tab.evaluate(Path(AXE_FILE_PATH).read_text())
        violations = browser.tab.evaluate("axe.run().then(done => done.violations)")
        assert [(one["id"], one["nodes"][0]["html"][:200]) for one in violations] == []
        browser.tab.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
        assert browser.tab.evaluate("document.documentElement.scrollWidth") == 390


def test_where_nothing_has_run_it_says_so_and_draws_no_axes(
    chromium: Browser, nothing: dict[str, Rows], tmp_path: Path
) -> None:
    with reader(chromium, written(nothing, tmp_path)) as browser:
        browser.open(PAGE.name)
        assert str(browser.tab.text_content(".state")).startswith("No data yet · written ")
        of = {"storage", "tables"}  # the warehouse is there, and may have been measured
        for chart in PAGE.charts:
            if chart.name not in of:
                assert browser.tab.locator(f"#{chart.name} svg").count() == 0, chart.name
                assert browser.tab.text_content(f"#{chart.name} .empty") == chart.empty
                assert browser.tab.is_visible(f"#{chart.name} .empty")
        assert browser.figures()["Success rate"] == "–"  # noqa: RUF001 - what the page shows for nothing
        assert browser.figures()["Open incidents"] == "0"


def test_it_has_no_words_of_an_error_no_refused_row_and_nobody(found: dict[str, Rows]) -> None:
    assert SECRET not in render(PAGE, [PAGE], found, Links(), WRITTEN)
