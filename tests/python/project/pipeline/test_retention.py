"""Records that are a year old go where nothing needs them; every guarantee is as it was, for what comes after, too."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from granary.load.api import pending_dates
from granary.warehouse import retention
from tests.python.project.pipeline.test_publishing import BUILD, a_day_of, assert_ledger_is_right, correct
from tests.python.support.command import granary

if TYPE_CHECKING:
    from tests.python.project.pipeline.conftest import Pipeline

BEGINS = date(2017, 1, 10)
TIMES = """
    select attrelid::regclass::text, attname::text
    from pg_attribute
    where attrelid in (select oid from pg_class where relkind = 'r' and relnamespace = 'ops'::regnamespace)
        and atttypid = 'timestamptz'::regtype and not attisdropped
"""
NEEDED = {
    "restatements": "select publish_id, mart, business_month, differences::text, load_ids"
    " from ops.restatements order by 1, 2, 3",
    "freshness": "select source, table_name, fresh_at from ops.freshness order by 1, 2",
    "health": "select source, table_name, last_load_id, last_status, last_good_at, failed_loads, active_rows,"
    " rows_quarantined from ops.load_health order by 1, 2",
    "loads": "select load_id, unit, status, superseded_by from ops.load_audit where status <> 'unchanged' order by 1",
    "publishes": "select publish_id, marts, loads_seen::text from ops.publishes order by 1",
    "last months": "select distinct on (mart, business_month) mart, business_month, publish_id, row_count,"
    " measures::text from ops.published_months order by mart, business_month, publish_id desc",
    "watermarks": "select source, table_name, value from ops.watermarks order by 1, 2",
    "models": "select model, source, previous_load_id, load_id from ops.model_watermarks order by 1, 2",
    "open or decided": "select quarantine_id, status from ops.quarantine where status <> 'superseded' order by 1",
    "last audits": "select distinct on (model) model, invocation_id from ops.model_audits order by 1, audited_at desc",
    "last build": "select invocation_id from ops.builds order by finished_at desc limit 1",
}
"""What guarantees, status and dashboards read."""


def needed(pipeline: Pipeline) -> dict[str, list[Any]]:
    return {name: pipeline.query(sql) for name, sql in NEEDED.items()}


def rows(pipeline: Pipeline) -> dict[str, int]:
    there = "select relname::text from pg_class where relkind = 'r' and relnamespace = 'ops'::regnamespace"
    return {name: pipeline.query(f"select count(*) from ops.{name}")[0][0] for (name,) in pipeline.query(there)}


@pytest.fixture(scope="module", autouse=True)
def beginning(pipeline: Pipeline) -> None:
    """Publish two months in four steps, look five times for what is not there, correct a closed month; a year ago."""
    for day in (date(2017, 1, 25), date(2017, 2, 20)):
        pipeline.day(day)
    for _ in range(5):
        pipeline.load("crm.stores")
    correct(pipeline, a_day_of(pipeline, "2017-01-01"), 4)
    pipeline.dbt(*BUILD)
    pipeline.execute(
        "insert into ops.quarantine (identity, load_id, source, table_name, unit, row_number, column_name, reason,"
        " payload, contract_version, status) select status, 1, 'pos', 'transactions', 'x', 1, 'a', 'b', '{}', 1, status"
        " from unnest(array['open', 'replayed', 'dropped', 'superseded']) as status",
        "insert into ops.profiles (relation, row_count, profile)"
        " select 'marts.fct_sales', n, '{\"columns\": []}' from generate_series(1, 5) as n",
        "insert into ops.steps (run_id, kind, name, is_full, seconds) values ('r', 'model', 'fct_sales', false, 1)",
        "insert into ops.files_not_loaded (source, table_name, unit, outcome, reason, load_id)"
        " values ('pos', '', 'notes.txt', 'passed over', 'no table takes it', 1)",
        *(
            f"update {table} set {column} = {column} - interval '400 days'"
            for table, column in pipeline.query(TIMES)
            if table != "ops.migrations"
        ),
    )


def test_every_table_has_a_policy(pipeline: Pipeline) -> None:
    names = "select relname::text from pg_class where relkind = 'r' and relnamespace = 'ops'::regnamespace"
    assert {name for (name,) in pipeline.query(names)} <= {one.table for one in retention.POLICIES}


def test_what_is_young_stays(pipeline: Pipeline) -> None:
    before = rows(pipeline)
    assert not any(retention.prune(pipeline.settings, 500).values())
    assert rows(pipeline) == before


def test_what_nothing_needs_goes_and_all_else_stays(pipeline: Pipeline) -> None:
    before, there = needed(pipeline), rows(pipeline)
    looks = (
        "select count(*) from ops.load_audit where source = 'crm' and table_name = 'stores' and status = 'unchanged'"
    )
    assert pipeline.query(looks)[0][0] >= 5
    gone = retention.prune(pipeline.settings, 90)
    assert needed(pipeline) == before
    assert {name: there[name] - left for name, left in rows(pipeline).items() if there[name] > left} == {
        name: number for name, number in gone.items() if number
    }
    assert pipeline.query(looks) == [(1,)]
    assert {name: gone[name] for name in ("quarantine", "profiles", "steps", "files_not_loaded")} == {
        "quarantine": 1,
        "profiles": 3,
        "steps": 1,
        "files_not_loaded": 1,
    }
    # Of each mart's months: the last, and what came after a month's end.
    assert gone["published_months"] > 0
    assert pipeline.query(
        "select count(distinct invocation_id)::int from ops.model_audits where model = 'build.fct_sales'"
    ) == [(1,)]
    assert pipeline.query("select count(*)::int from ops.builds") == [(1,)]
    assert retention.prune(pipeline.settings, 90) == dict.fromkeys(gone, 0)


def test_after_that_corrections_restate_and_marts_are_those_of_a_full_refresh(pipeline: Pipeline) -> None:
    """Files are known again, closed months are restated with what brought it, numbers lead to their files."""
    assert pending_dates(pipeline.settings, "pos") == []
    known = pipeline.query("select count(*) from ops.load_audit where status = 'loaded'")
    pipeline.load()
    assert pipeline.query("select count(*) from ops.load_audit where status = 'loaded'") == known
    before = pipeline.query("select count(*) from ops.restatements")[0][0]
    day = a_day_of(pipeline, "2017-01-01")
    correct(pipeline, day, 2)
    pipeline.dbt(*BUILD)
    assert_ledger_is_right(pipeline)
    assert pipeline.query("select count(*) from ops.restatements")[0][0] > before
    pieces = "select differences ->> 'quantity' from ops.restatements where mart = 'fct_sales' order by publish_id"
    assert pipeline.query(pieces) == [("4",), ("2",)]
    explained = granary(pipeline.settings, "explain", "marts.fct_sales", "--where", f"business_date = '{day}'")
    assert explained.returncode == 0, explained.stderr
    assert f"transactions/{day}.parquet" in explained.stdout
    marts = pipeline.marts()
    pipeline.dbt("run", "--full-refresh")
    assert pipeline.marts() == marts


def test_after_that_an_erasure_explains_the_closed_months(pipeline: Pipeline) -> None:
    """Household 1 has 198.15 in January; the closed month is restated by that, and by no load."""
    done = granary(pipeline.settings, "forget", "household", "1", "--yes")
    assert done.returncode == 0, done.stderr
    restated = pipeline.query(
        "select business_month::text, (differences ->> 'sales_value')::numeric(9, 2)::text, is_by_erasure"
        " from ops.restatements where mart = 'fct_sales' and is_latest_publish"
    )
    assert restated == [("2017-01-01", "-198.15", True)]
