"""Old records that nothing needs go; what each guarantee reads stays, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from granary.warehouse import retention
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[Any, ...]]]

LONG_AGO = "timestamptz '2024-01-01' + interval '1 hour' *"
OF_DBT = (
    "create table if not exists ops.model_audits (invocation_id text, test text, model text, scope text,"
    " failures bigint, audited_at timestamptz)",
    "create table if not exists ops.builds (invocation_id text, schema_name text, command text,"
    " finished_at timestamptz, failures jsonb, warnings jsonb)",
    "create table if not exists ops.publishes (publish_id bigint generated always as identity primary key,"
    " schema_name text, invocation_id text,"
    " started_at timestamptz, finished_at timestamptz, marts text[], rows_inserted bigint, rows_deleted bigint,"
    " last_date date, loads_seen jsonb)",
    "create table if not exists ops.published_months (publish_id bigint, mart text, business_month date,"
    " rows_inserted bigint, rows_deleted bigint, previous_row_count bigint, row_count bigint, previous_measures jsonb,"
    " measures jsonb)",
)
"""What dbt makes where it has built something."""


@pytest.fixture
def made(warehouse: Settings) -> Settings:
    """Return a warehouse with the records of dbt, too."""
    run(warehouse, *OF_DBT)
    return warehouse


def run(settings: Settings, *statements: str) -> None:
    with connect(settings) as connection:
        for statement in statements:
            execute(connection, statement)
        connection.commit()


def look(number: int, status: str, rows: int = 0, watermark: str = "null", fingerprint: str = "null") -> str:
    """Return the statement for a load of one table, years ago."""
    loaded = rows if status == "loaded" else 0
    return (
        "insert into ops.load_audit (load_id, run_id, source, table_name, unit, fingerprint, status, rows_read,"
        " rows_loaded, rows_quarantined, rows_deleted, bytes, seconds, watermark_before, watermark_after, started_at,"
        f" finished_at) values ({number}, 'r', 'shop', 'orders', 'u', {fingerprint}, '{status}', {rows}, {loaded},"
        f" 0, 0, 0, 0, {watermark}, {watermark}, {LONG_AGO} {number}, {LONG_AGO} {number})"
    )


def loads(settings: Settings) -> list[int]:
    with connect(settings) as connection:
        return [int(row[0]) for row in query(connection, "select load_id from ops.load_audit order by 1")]


def test_of_looks_that_found_nothing_those_stay_that_freshness_counts_from(warehouse: Settings, rows: Rows) -> None:
    run(
        warehouse,
        look(1, "unchanged"),  # the first: the clock runs from here if nothing ever comes
        look(2, "loaded", 5),
        look(3, "unchanged", fingerprint="'known again by it'"),
        look(4, "unchanged"),
        look(5, "unchanged", 3),
        look(6, "unchanged", 3),  # the last that confirmed rows
        look(7, "unchanged"),
        look(8, "unchanged"),  # the last
        look(9, "failed"),
    )
    before = rows("select * from ops.freshness")
    assert retention.prune(warehouse, 90)["load_audit"] == 3
    assert loads(warehouse) == [1, 2, 3, 6, 8, 9]
    assert rows("select * from ops.freshness") == before


def test_of_looks_past_a_watermark_those_stay_that_moved_it(warehouse: Settings, rows: Rows) -> None:
    run(
        warehouse,
        look(1, "loaded", 1, "'5'"),
        look(2, "unchanged", 0, "'5'"),
        look(3, "unchanged", 0, "'5'"),
        look(4, "loaded", 1, "'6'"),
        look(5, "unchanged", 0, "'6'"),
        look(6, "unchanged", 0, "'7'"),
        look(7, "unchanged", 0, "'7'"),
    )
    before = rows("select * from ops.freshness")
    retention.prune(warehouse, 90)
    assert loads(warehouse) == [1, 4, 6, 7]
    assert rows("select * from ops.freshness") == before


def change(settings: Settings, publish: int, mart: str, month: str) -> None:
    """Have a publish change a month of a mart."""
    columns = "publish_id, mart, business_month, rows_inserted, rows_deleted, row_count, measures"
    run(
        settings, f"insert into ops.published_months ({columns}) values ({publish}, '{mart}', {month}, 1, 0, 1, '{{}}')"
    )


def test_of_published_months_the_last_stay_and_those_that_restate(made: Settings, rows: Rows) -> None:
    """January ends with the fourth publish; what comes after changes a month that people took for whole."""
    for number, last_day in enumerate(("2025-01-10", "2025-01-25", "2025-01-30", "2025-02-20", "2025-02-21"), start=1):
        run(
            made,
            "insert into ops.publishes (publish_id, schema_name, invocation_id, started_at, finished_at, marts,"
            " rows_inserted, rows_deleted, last_date, loads_seen) overriding system value values"
            f" ({number}, 'marts', 'i', {LONG_AGO} {number}, {LONG_AGO} {number}, '{{fct}}', 1, 0,"
            f" '{last_day}', '{{}}')",
        )
    written = [(1, "01"), (2, "01"), (3, "01"), (4, "01"), (4, "02"), (5, "01"), (5, "02")]
    for number, month in written:
        change(made, number, "fct", f"'2025-{month}-01'")
        change(made, number, "dim", "null")
    retention.prune(made, 90)
    kept = "select distinct publish_id, mart, to_char(business_month, 'MM') from ops.published_months order by 1, 2, 3"
    assert rows(kept) == [(5, "dim", None), (5, "fct", "01"), (5, "fct", "02")]
    change(made, 4, "other", "'2025-01-01'")
    change(made, 5, "other", "'2025-01-01'")
    run(made, "update ops.publishes set last_date = '2025-01-31' where publish_id = 3")
    retention.prune(made, 90)
    assert rows("select publish_id from ops.published_months where mart = 'other' order by 1") == [(4,), (5,)]


def test_of_audits_builds_and_profiles_the_last_stay(made: Settings, rows: Rows) -> None:
    for number in (1, 2):
        run(
            made,
            f"insert into ops.builds values ('i{number}', 'marts', 'build', {LONG_AGO} {number}, '[]', '[]')",
            f"insert into ops.builds values ('a{number}', 'dev_ada_marts', 'run', {LONG_AGO} {number}, '[]', '[]')",
            f"insert into ops.model_audits select 'i{number}', 'test ' || n, 'build.fct', 'all', 0,"
            f" {LONG_AGO} {number} + n * interval '1 ms' from generate_series(1, 3) as n",
        )
    run(
        made,
        "insert into ops.model_audits values"
        f" ('i1', 'test', 'build.seldom', 'all', 0, {LONG_AGO} 1)",  # this is its last one
        "insert into ops.profiles (relation, row_count, profile, profiled_at)"
        f" select 'marts.fct', n, '{{}}', {LONG_AGO} n from generate_series(1, 5) as n",
    )
    retention.prune(made, 90)
    assert rows("select invocation_id from ops.builds order by 1") == [("a2",), ("i2",)]
    assert rows("select model, invocation_id, count(*)::int from ops.model_audits group by 1, 2 order by 1") == [
        ("build.fct", "i2", 3),
        ("build.seldom", "i1", 1),
    ]
    assert rows("select row_count::int from ops.profiles order by 1") == [(4,), (5,)]


def test_of_the_quarantine_goes_what_a_later_delivery_made_void(warehouse: Settings, rows: Rows) -> None:
    run(
        warehouse,
        "insert into ops.quarantine (identity, load_id, source, table_name, unit, row_number, column_name, reason,"
        " payload, contract_version, status, last_seen_at) select status, 1, 'shop', 'orders', 'u', 1, 'c', 'r', '{}',"
        f" 1, status, {LONG_AGO} 1 from unnest(array['open', 'replayed', 'dropped', 'failed', 'superseded']) as status",
    )
    assert not any(retention.prune(warehouse, 100_000).values())
    assert retention.prune(warehouse, 90)["quarantine"] == 1
    assert rows("select status from ops.quarantine order by 1") == [("dropped",), ("failed",), ("open",), ("replayed",)]


def test_it_is_due_once_a_day(warehouse: Settings) -> None:
    assert [retention.is_due(warehouse), retention.is_due(warehouse)] == [True, False]
    run(warehouse, "update ops.steps set finished_at = finished_at - interval '25 hours'")
    assert [retention.is_due(warehouse), retention.is_due(warehouse)] == [True, False]


def test_what_somebody_has_locked_is_left_for_the_next_time(warehouse: Settings) -> None:
    run(warehouse, look(1, "unchanged"), look(2, "unchanged"), look(3, "unchanged"))
    with connect(warehouse) as other:
        execute(other, "lock table ops.load_audit in access exclusive mode")
        assert "load_audit" not in retention.prune(warehouse, 90)
        other.rollback()
    assert retention.prune(warehouse, 90)["load_audit"] == 1


@pytest.mark.parametrize("given", ["ninety", 0, True, 1.5])
def test_a_number_of_days_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, given: object) -> None:
    monkeypatch.setattr(retention, "project_vars", lambda: {"record_days": given})
    with pytest.raises(GranaryError, match="record_days"):
        retention.days()
    monkeypatch.setattr(retention, "project_vars", lambda: {"record_days": 400})
    assert retention.days() == 400
    monkeypatch.setattr(retention, "project_vars", dict)
    assert retention.days() == 90
