"""What a publish writes, what it refuses, and what the ledger says of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from granary.warehouse.compare import compare
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import PROJECT
from tests.python.support.command import granary

if TYPE_CHECKING:
    from tests.python.project.pipeline.conftest import Pipeline

BUILD = ("build", "--exclude-resource-type", "test", "unit_test")
PUBLISH = ("run-operation", "publish")
WROTE = "select rows_inserted::int, rows_deleted::int from ops.publishes order by publish_id desc limit 1"
BUILT = "'build'::regnamespace"
PUBLISHED = "'marts'::regnamespace, 'personal'::regnamespace"
"""Marts are tables in `marts`, or, with personal columns, tables in `personal` behind views in `marts`."""
NAMES = (
    "select relname::text from pg_class"
    " where relkind = '{}' and relnamespace in ({}) and relname !~ '__delta$' order by 1"
)


@pytest.fixture(scope="module", autouse=True)
def beginning(pipeline: Pipeline) -> None:
    """Publish two months, and the days of grace that close the first."""
    pipeline.day(date(2017, 2, 20))


def versions(pipeline: Pipeline) -> dict[str, Any]:
    """Return which transactions wrote the rows of each mart: equal if nothing was written."""
    tables = (
        f"select oid::regclass::text from pg_class where relkind = 'r' and relnamespace in ({PUBLISHED}) order by 1"
    )
    sql = "select count(*), min(xmin::text::bigint), max(xmin::text::bigint), '{0}'::regclass::oid::text from {0}"
    return {str(name): pipeline.query(sql.format(name)) for (name,) in pipeline.query(tables)}


def wrote(pipeline: Pipeline) -> tuple[Any, ...]:
    return pipeline.query(WROTE)[0]


def assert_ledger_is_right(pipeline: Pipeline) -> None:
    """The last word of the ledger on each month is what a person would count."""
    for mart, measures in (("fct_sales", ("sales_value", "quantity")), ("fct_baskets", ("sales_value", "line_count"))):
        counted = pipeline.query(
            "select date_trunc('month', business_date)::date, count(*),"
            f" {', '.join(f'sum({measure})::numeric(14, 2)' for measure in measures)}"
            f" from marts.{mart} group by 1 order by 1"
        )
        said = pipeline.query(
            "select distinct on (business_month) business_month, row_count,"
            f" {', '.join(f'(measures ->> {measure!r})::numeric(14, 2)' for measure in measures)}"
            f" from ops.published_months where mart = '{mart}' order by business_month, publish_id desc"
        )
        assert said == counted


def test_the_published_tables_are_like_the_built_ones(pipeline: Pipeline) -> None:
    assert pipeline.query(NAMES.format("r", PUBLISHED)) == pipeline.query(NAMES.format("r", BUILT))
    assert pipeline.query(NAMES.format("v", PUBLISHED)) == [("dim_household",)]
    shape = (
        "select c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull,"
        " col_description(c.oid, a.attnum), obj_description(c.oid, 'pg_class')"
        " from pg_class as c inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0"
        " where c.relkind = '{}' and c.relnamespace in ({}) and c.relname !~ '__delta$' order by 1, 2"
    )
    assert pipeline.query(shape.format("r", PUBLISHED)) == pipeline.query(shape.format("r", BUILT))
    views = [(*row[:3], *row[4:]) for row in pipeline.query(shape.format("v", PUBLISHED))]
    assert views == [
        (*row[:3], *row[4:]) for row in pipeline.query(shape.format("r", BUILT)) if row[0] == "dim_household"
    ]
    indexes = (
        "select tablename::text, indexname::text, replace(indexdef, schemaname || '.', '') from pg_indexes"
        " where schemaname::text::regnamespace in ({}) order by 1, 2"
    )
    assert pipeline.query(indexes.format(PUBLISHED)) == pipeline.query(indexes.format(BUILT))
    assert len(pipeline.query(indexes.format(PUBLISHED))) >= 10
    # The planner knows all of them but those that have no rows yet.
    unknown = f"select oid::regclass::text from pg_class where relnamespace in ({PUBLISHED})"
    for (name,) in pipeline.query(unknown + " and relkind = 'r' and reltuples < 0"):
        assert pipeline.query(f"select count(*) from {name}") == [(0,)]


def test_analysts_read_what_is_published_and_nothing_that_is_built(pipeline: Pipeline) -> None:
    with connect(pipeline.settings, role="analyst", autocommit=True) as analyst:
        execute(analyst, "select household_id from marts.dim_household")
        for refused in ("select 1 from personal.dim_household", "select 1 from build.fct_sales"):
            with pytest.raises(Exception, match="permission denied"):
                execute(analyst, refused)
        with pytest.raises(Exception, match="permission denied"):
            execute(analyst, "delete from marts.fct_sales")


def test_what_an_audit_has_proved_is_not_asked_again(pipeline: Pipeline) -> None:
    """A test passes without a statement in the run whose audit it was in, if that looked at all that the test does."""

    def open_ones(*command: str) -> tuple[set[str], set[str]]:
        results = pipeline.dbt(*command, "--select", "fct_baskets", "--exclude-resource-type", "unit_test").items()
        tests = {name: result for name, result in results if result.node.resource_type == "test"}
        return set(tests), {name for name, result in tests.items() if result.adapter_response}

    tests, asked = open_ones("build", "--full-refresh")
    audited = "select distinct test from ops.model_audits where model = 'build.fct_baskets'"
    assert tests - asked == {str(name) for (name,) in pipeline.query(audited)} != set()
    assert "baskets_reconcile_with_sales" in asked
    assert open_ones("build") == (tests, tests)  # an increment's audit looks at what is new
    assert open_ones("build", "--vars", "{test_scope: new}") == (tests, asked)
    assert open_ones("test") == (tests, tests)


def test_a_full_refresh_of_the_same_data_writes_nothing(pipeline: Pipeline) -> None:
    before = versions(pipeline)
    pipeline.dbt("run", "--full-refresh")
    assert versions(pipeline) == before
    assert wrote(pipeline) == (0, 0)


def test_a_row_that_changes_is_the_only_one_written(pipeline: Pipeline) -> None:
    """A household moves from one age to another in a version of its own; a seed, which has no key, is left as it is."""
    pipeline.execute(
        "update build.dim_household set age_range = 'older' where household_id = 1",
        "insert into ops.unpublished (schema_name, mart, invocation_id) values ('marts', 'dim_household', 'by hand'),"
        " ('marts', 'promotion_codes', 'by hand')",
    )
    pipeline.dbt(*PUBLISH)
    assert wrote(pipeline) == (1, 1)
    pipeline.execute("update build.promotion_codes set meaning = 'x' where code = '0' and medium = 'mailer'")
    pipeline.execute(
        "insert into ops.unpublished (schema_name, mart, invocation_id) values ('marts', 'promotion_codes', 'by hand')"
    )
    pipeline.dbt(*PUBLISH)
    assert wrote(pipeline) == (21, 21)
    pipeline.dbt(
        "build", "--select", "dim_household", "promotion_codes", "--exclude-resource-type", "test", "unit_test"
    )
    assert wrote(pipeline) == (22, 22)


def correct(pipeline: Pipeline, day: str, quantity: int) -> tuple[int, int]:
    """Add so many pieces to a line of a day that is delivered again; return the basket and product."""
    file = pipeline.settings.home / "demo" / "landing" / "pos" / "transactions" / f"{day}.parquet"
    table = pq.read_table(file)
    pieces = table.column("quantity").to_pylist()
    pieces[0] += quantity
    money = table.column("sales_value").to_pylist()
    money[0] = round(money[0] + quantity * 1.25, 2)
    for column, values in (("quantity", pieces), ("sales_value", money)):
        index = table.schema.get_field_index(column)
        table = table.set_column(index, column, pa.array(values, table.schema.field(index).type))
    pq.write_table(table, file)
    pipeline.load("pos.transactions")
    return table.column("basket_id")[0].as_py(), table.column("product_id")[0].as_py()


def a_day_of(pipeline: Pipeline, month: str) -> str:
    """Return the busiest business date of a month whose file has lines of that date only."""
    rows = pipeline.query(
        "select business_date::text from marts.fct_sales"
        f" where date_trunc('month', business_date) = '{month}' group by 1 order by count(*) desc, 1"
    )
    return str(rows[0][0])


def test_a_closed_month_that_changes_is_in_the_ledger_with_its_difference(pipeline: Pipeline) -> None:
    """A line of January gets 4 pieces and 5.00 dollars more: sales, baskets, and the load that brought it."""
    assert_ledger_is_right(pipeline)
    pipeline.dbt("run", "--select", "restatements")
    assert pipeline.query("select count(*) from ops.restatements") == [(0,)]
    correct(pipeline, a_day_of(pipeline, "2017-01-01"), 4)
    newest = pipeline.query("select max(load_id)::bigint from ops.load_audit where status = 'loaded'")[0][0]
    pipeline.dbt(*BUILD)
    assert_ledger_is_right(pipeline)
    restated = pipeline.query(
        "select mart, business_month::text, row_difference::int, rows_inserted::int, rows_deleted::int,"
        " (differences ->> 'sales_value')::numeric(12, 2), array_to_string(load_ids, ',')"
        " from ops.restatements where is_latest_publish order by mart"
    )
    assert {row[0] for row in restated} >= {"daily_sales", "fct_baskets", "fct_sales", "monthly_sales"}
    found = [row for row in restated if row[0].startswith("fct_")]
    assert [row[:3] for row in found] == [("fct_baskets", "2017-01-01", 0), ("fct_sales", "2017-01-01", 0)]
    assert {row[5] for row in found} == {Decimal("5.00")}
    assert {row[6] for row in found} == {str(newest)}
    # Every line of the file has a new load_id; of the baskets one only is another.
    assert found[0][3:5] == (1, 1)
    assert found[1][3] == found[1][4] > 1
    pieces = "select differences ->> 'quantity' from ops.restatements where mart = 'fct_sales'"
    assert pipeline.query(pieces) == [("4",)]

    # February is not closed before March 7 has been published.
    correct(pipeline, a_day_of(pipeline, "2017-02-01"), 1)
    pipeline.dbt(*BUILD)
    assert_ledger_is_right(pipeline)
    assert pipeline.query("select count(*) from ops.restatements where is_latest_publish") == [(0,)]


def test_what_is_built_without_publishing_is_compared_and_published_later(pipeline: Pipeline) -> None:
    before = pipeline.marts()
    basket, product = correct(pipeline, a_day_of(pipeline, "2017-02-01"), 2)
    pipeline.dbt("run", "--vars", "publish: false")
    assert pipeline.marts() == before

    found = compare(pipeline.settings, "fct_baskets", "marts", "build")
    assert (found.key, found.added, found.removed, found.changed) == (("basket_id",), 0, 0, 1)
    assert found.columns == dict.fromkeys(found.columns, 1)
    assert {"sales_value", "regular_value", "loyalty_value", "customer_paid"} <= set(found.columns)
    done = granary(pipeline.settings, "diff", "fct_sales", "--json", "--examples", "100")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["added"], said["removed"]) == (0, 0)
    assert said["columns"]["quantity"] == said["columns"]["sales_value"] == 1
    assert said["columns"]["load_id"] == said["changed"] > 1
    (example,) = (row for row in said["examples"] if "quantity" in row)
    assert (example["basket_id"], example["product_id"]) == (str(basket), str(product))
    assert int(example["quantity"][1]) - int(example["quantity"][0]) == 2
    assert granary(pipeline.settings, "diff", "fct_sales", "--check").returncode == 1
    assert granary(pipeline.settings, "diff", "dim_store", "--check").returncode == 0
    refused = granary(pipeline.settings, "diff", "no_such_mart")
    assert refused.returncode == 2
    assert refused.stderr.startswith("granary: there is no table 'marts.no_such_mart'")

    pipeline.dbt(*PUBLISH)
    assert pipeline.marts() != before
    assert compare(pipeline.settings, "fct_sales", "marts", "build").same
    with pytest.raises(GranaryError):
        compare(pipeline.settings, "fct_sales", "marts", "nowhere")


def test_a_comparison_tells_rows_and_columns_that_are_on_one_side_only(pipeline: Pipeline) -> None:
    pipeline.execute(
        "create schema left_side",
        "create schema right_side",
        "create table left_side.t (id int, a text, gone int, kind int)",
        "create table right_side.t (id int, a text, come int, kind text)",
        "insert into left_side.t values (1, 'x', 1, 1), (2, null, 1, 1), (3, 'z', 1, 1), (3, 'z', 1, 1)",
        "insert into right_side.t values (2, null, 1, 1), (3, 'z', 1, 1), (4, 'new', 1, 1)",
        "grant usage on schema left_side, right_side to transformer",
        "grant select on left_side.t, right_side.t to transformer",
    )
    found = compare(pipeline.settings, "t", "left_side", "right_side")
    assert (found.rows_old, found.rows_new, found.added, found.removed, found.changed) == (4, 3, 1, 2, 0)
    assert (found.added_columns, found.removed_columns, found.retyped_columns) == (("come",), ("gone",), ("kind",))
    pipeline.execute(*(f"create unique index t_grain on {side}_side.t (id)" for side in ("right",)))
    pipeline.execute("delete from left_side.t where ctid = (select max(ctid) from left_side.t)")
    pipeline.execute("update right_side.t set a = 'y' where id = 2")
    found = compare(pipeline.settings, "t", "left_side", "right_side")
    assert (found.added, found.removed, found.changed, found.columns) == (1, 1, 1, {"a": 1})
    assert found.examples[-1] == {"kind": "changed", "id": "2", "a": [None, "y"]}
    pipeline.execute("drop schema left_side, right_side cascade")


def test_a_run_that_is_killed_leaves_nothing_that_another_one_would_publish(pipeline: Pipeline) -> None:
    before = pipeline.marts()
    correct(pipeline, a_day_of(pipeline, "2017-02-01"), 1)
    with connect(pipeline.settings) as blocker:
        execute(blocker, "lock table build.fct_baskets in access exclusive mode")
        command = [str(Path(sys.executable).with_name("dbt")), *BUILD, "--target-path", str(pipeline.target)]
        environment = pipeline.settings.environment()
        with subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.DEVNULL) as run:
            while not pipeline.query("select 1 from ops.unpublished where mart = 'fct_sales'"):
                assert run.poll() is None
            os.kill(run.pid, signal.SIGKILL)
    pipeline.dbt("run", "--select", "dim_store", succeeds=False)
    assert pipeline.marts() == before
    held = "select count(*) from ops.publish_holds where reason = 'has not finished' and node like '%.fct_baskets'"
    assert pipeline.query(held) == [(1,)]
    pipeline.dbt(*BUILD)
    assert pipeline.marts() != before
    assert pipeline.query("select count(*) from ops.publish_holds") == [(0,)]


def test_an_empty_run_publishes_nothing(pipeline: Pipeline) -> None:
    before = versions(pipeline)
    built = pipeline.query("select count(*), max(xmin::text) from build.dim_campaign")
    pipeline.dbt("run", "--select", "dim_campaign", "--empty")
    assert pipeline.query("select count(*), max(xmin::text) from build.dim_campaign") == built
    assert versions(pipeline) == before
    pipeline.dbt("run", "--select", "dim_campaign")
    assert versions(pipeline) == before


def change_store(pipeline: Pipeline, *statements: str, succeeds: bool = True) -> str:
    """Change the columns of the built mart by hand and publish it; return what dbt said."""
    pipeline.execute(
        *statements,
        "insert into ops.unpublished (schema_name, mart, invocation_id) values ('marts', 'dim_store', 'by hand')",
    )
    return pipeline.said(*PUBLISH, succeeds=succeeds)


def test_columns_that_change_do_not_break_what_analysts_made(pipeline: Pipeline) -> None:
    table = "select 'marts.dim_store'::regclass::oid::text"
    first = pipeline.query(table)
    rows = pipeline.query("select count(*) from marts.dim_store")
    # Nothing depends on it: the new table takes the place of the old one, with its indexes and grants.
    change_store(
        pipeline, "alter table build.dim_store add column region text", "update build.dim_store set region = 'N'"
    )
    assert pipeline.query(table) != first
    assert pipeline.query("select count(*) from marts.dim_store where region = 'N'") == rows
    index = "select indexname::text from pg_indexes where schemaname = 'marts' and tablename = 'dim_store'"
    assert pipeline.query(index) == [("dim_store_grain",)]
    second = pipeline.query(table)

    # A view depends on it: columns are added to the table that is there.
    pipeline.execute(
        "create schema desk authorization analyst",
        "set role analyst",
        "create view desk.stores as select store_id, region from marts.dim_store",
        "reset role",
    )
    change_store(pipeline, "alter table build.dim_store add column size int", "update build.dim_store set size = 7")
    assert pipeline.query("select count(*) from marts.dim_store where size = 7") == rows
    assert pipeline.query(table) == second

    # It would lose one: refused, with the views named; as soon as they are gone it is done.
    before = versions(pipeline)
    said = change_store(pipeline, "alter table build.dim_store drop column region", succeeds=False)
    assert "nothing was published: marts.dim_store would lose or retype region, and desk.stores depends on it" in said
    assert versions(pipeline) == before
    pipeline.execute("drop view desk.stores")
    pipeline.dbt("run", "--select", "dim_store")
    columns = "select string_agg(attname::text, ' ' order by attnum) from pg_attribute where attrelid = '{}'::regclass"
    columns += " and attnum > 0 and not attisdropped"
    assert pipeline.query(columns.format("marts.dim_store")) == pipeline.query(columns.format("build.dim_store"))
    assert pipeline.query("select count(*) from marts.dim_store") == rows
    with connect(pipeline.settings, role="analyst", autocommit=True) as analyst:
        execute(analyst, "select store_id from marts.dim_store")


def test_grants_are_those_of_the_project(pipeline: Pipeline) -> None:
    """What was given by hand, of the mart that is published and of others, is taken back by the next publish."""
    grants = (
        "select oid::regclass::text, array(select unnest(relacl)::text order by 1)"
        f" from pg_class where relkind in ('r', 'v') and relnamespace in ({PUBLISHED}) order by 1"
    )
    before = pipeline.query(grants)
    for mart in ("dim_store", "dim_date", "dim_household"):
        pipeline.execute(
            f"grant select, insert on marts.{mart} to public",
            f"grant delete on marts.{mart} to auditor",
            f"revoke select on marts.{mart} from analyst",
        )
    assert pipeline.query(grants) != before
    change_store(pipeline)
    assert pipeline.query(grants) == before


def test_a_warehouse_that_lacks_what_this_engine_brings_stops_a_run(pipeline: Pipeline) -> None:
    pipeline.execute("alter function ops.audit(jsonb) rename to audit_later")
    said = change_store(pipeline, succeeds=False)
    pipeline.execute("alter function ops.audit_later(jsonb) rename to audit")
    assert "this warehouse was not prepared for this engine: run `granary up`, then this again." in said


def test_a_mart_without_a_model_is_told_and_kept(pipeline: Pipeline) -> None:
    pipeline.execute("set role transformer", "create table marts.fct_forgotten as select 1 as one", "reset role")
    said = change_store(pipeline)
    assert "marts.fct_forgotten is built by no model any more and stays as it was" in said
    assert pipeline.query("select one from marts.fct_forgotten") == [(1,)]
    pipeline.execute("drop table marts.fct_forgotten")


def test_marts_that_dbt_filled_itself_are_adopted(pipeline: Pipeline) -> None:
    """A warehouse from before: the marts are dbt's own tables, and nothing is known of publishing."""
    pipeline.execute(
        "drop schema build cascade",
        "truncate ops.published_months, ops.published_marts, ops.publishes, ops.unpublished, ops.publish_holds",
    )
    before, rows = versions(pipeline), pipeline.marts()
    pipeline.dbt(*BUILD)
    assert versions(pipeline) == before
    assert pipeline.marts() == rows
    assert_ledger_is_right(pipeline)
    assert pipeline.query("select count(*) from ops.publishes") == [(2,)]
    assert pipeline.query("select count(*) from ops.restatements") == [(0,)]
