"""Every data test fails on a fault that is planted for it, and an audited mart never shows one."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from warehouse.connection import connect, execute, query

if TYPE_CHECKING:
    from tests.python.pipeline.conftest import Pipeline

# What breaks a test that says more than its kind. {t} is the table that the test is about.
FAULTS = {
    "load_health_share_in_range": "update ops.load_audit set rows_quarantined = rows_loaded * -9 - 1",
    "int_product_versions_gapless": "update snapshots.snap_crm__products"
    " set dbt_valid_to = dbt_valid_from - interval '1 day'",
    "int_household_versions_gapless": "update snapshots.snap_crm__households"
    " set dbt_valid_to = dbt_valid_from - interval '1 day'",
    "dim_product_gapless": "update {t} set valid_to = valid_from",
    "dim_household_gapless": "update {t} set valid_to = valid_from",
    "fct_baskets_counts_sound": "update {t} set line_count = 0",
    "fct_promotions_codes_known": "update {t} set display_location = '8' where ctid = (select min(ctid) from {t})",
    "fct_sales_amounts_not_negative": "update {t} set coupon_disc = -0.01 where ctid = (select min(ctid) from {t})",
    "fct_sales_date_is_new_york": "update {t} set business_date = business_date + 1"
    " where ctid = (select min(ctid) from {t})",
    "fct_sales_week_in_range": "update {t} set week = 54 where ctid = (select min(ctid) from {t})",
    "ledger_adds_up": "update {t} set rows_read = rows_read + 1 where status = 'loaded'",
    "raw_transactions_whole_cents": "update {t} set sales_value = sales_value + 0.005"
    " where ctid = (select min(ctid) from {t})",
    "analysts_see_no_personal_column": "grant select on marts.dim_household to analyst",
    "baskets_reconcile_with_sales": "update build.fct_baskets set customer_paid = customer_paid + 0.01"
    " where ctid = (select min(ctid) from build.fct_baskets)",
    "dimensions_reconcile_with_raw": "delete from build.dim_coupon"
    " where coupon_upc = (select min(coupon_upc) from build.dim_coupon)",
    "promotions_reconcile_raw_to_marts": "delete from build.fct_promotions"
    " where ctid = (select min(ctid) from build.fct_promotions)",
    "raw_reconciles_with_ledger": "delete from raw_pos.transactions"
    " where ctid = (select min(ctid) from raw_pos.transactions)",
    "redemptions_reconcile_raw_to_marts": "delete from build.fct_coupon_redemptions"
    " where ctid = (select min(ctid) from build.fct_coupon_redemptions)",
    "redemptions_within_their_campaign": "update build.dim_campaign set end_date = start_date - 1",
    "streamed_events_come_from_a_load": "update ops.load_audit set rows_loaded = 0, rows_quarantined = rows_read"
    " where source = 'events'",
    "sales_keys_are_of_the_sold_product_and_household": "update build.fct_sales set household_key ="
    " (select household_key from build.dim_household where household_id <> fct_sales.household_id limit 1)",
    "sales_reconcile_raw_to_marts": "update build.fct_sales set sales_value = sales_value + 0.01"
    " where ctid = (select min(ctid) from build.fct_sales)",
}


def fault(test: dict[str, Any], table: str, types: dict[str, str]) -> str:
    """Return the SQL that plants a fault for one test on a table with these column types."""
    if test["name"] in FAULTS:
        return FAULTS[test["name"]].format(t=table)
    kind, arguments = test["test_metadata"]["name"], test["test_metadata"]["kwargs"]
    column = arguments.get("column_name")
    first = f"where ctid = (select min(ctid) from {table})"
    strange = {"text": "'???'", "date": "'1950-01-01'"}.get(types.get(column, ""), "-99")
    return {
        "unique": f"insert into {table} select * from {table} limit 1",
        "unique_combination_of_columns": f"insert into {table} select * from {table} limit 1",
        "not_null": f"update {table} set {column} = null {first}",
        "accepted_values": f"update {table} set {column} = {strange} {first}",
        "accepted_range": f"update {table} set {column} = -99 {first}",
        "relationships": f"update {table} set {column} = {strange} {first}",
        "members_known": f"update {table} set {column} = {strange} {first}",
        # What they are about is gone once the table has been loosened.
        "unique_by_index": "select 1",
        "has_declared_indexes": "select 1",
    }[kind]


def loosen(connection: Any, table: str) -> None:
    """Drop what Postgres itself would refuse the fault with: constraints and indexes."""
    constraints = "select conname::text from pg_constraint where conrelid = $1::text::regclass and contype <> 'n'"
    for (name,) in query(connection, constraints, table):
        execute(connection, f'alter table {table} drop constraint if exists "{name}" cascade')
    columns = "select attname::text from pg_attribute where attrelid = $1::text::regclass and attnum > 0 and attnotnull"
    for (name,) in query(connection, columns, table):
        execute(connection, f'alter table {table} alter column "{name}" drop not null')
    indexes = "select indexrelid::regclass::text from pg_index where indrelid = $1::text::regclass"
    for (name,) in query(connection, indexes, table):
        execute(connection, f"drop index {name}")


def test_every_data_test_fails_on_a_planted_fault(pipeline: Pipeline) -> None:
    pipeline.day(date(2017, 12, 31))
    results = pipeline.dbt("compile", "--select", "test_type:data")
    tests = {name: result.node.to_dict() for name, result in results.items() if result.node.resource_type == "test"}
    assert len(tests) >= 85
    assert set(FAULTS) <= set(tests)
    silent = []
    for name, test in tests.items():
        about = next(iter(test["depends_on"]["nodes"]))
        about = test.get("attached_node") or about
        with connect(pipeline.settings) as connection:
            schema, relation = _place(about, pipeline)
            table = f"{schema}.{relation}"
            is_table = query(
                connection, "select 1 from pg_class where oid = $1::text::regclass and relkind = 'r'", table
            )
            if is_table:
                loosen(connection, table)
            if test["name"] == "load_health_share_in_range":
                loosen(connection, "ops.load_audit")
            types = dict(
                query(
                    connection,
                    "select attname::text, format_type(atttypid, null) from pg_attribute"
                    " where attrelid = $1::text::regclass and attnum > 0",
                    table,
                )
            )
            execute(connection, fault(test, table, types))  # type: ignore[arg-type]
            if not query(connection, f"select 1 from (\n{test['compiled_code']}\n) as found limit 1"):
                silent.append(name)
            connection.rollback()
    assert silent == []


def _place(unique_id: str, pipeline: Pipeline) -> tuple[str, str]:
    """Return the schema and name of a node's relation."""
    kind, _, *rest = unique_id.split(".")
    if kind == "source":
        return ("ops" if rest[0] == "ops" else f"raw_{rest[0]}"), rest[1]
    schemas = dict(
        pipeline.query(
            "select table_name, table_schema from information_schema.tables"
            " where table_schema in ('build', 'intermediate', 'snapshots', 'staging', 'ops')"
        )
    )
    return schemas[rest[0]], rest[0]


def words(message: object) -> str:
    return " ".join(str(message).split())


def test_bad_rows_never_reach_a_table_mart(pipeline: Pipeline) -> None:
    shown = "select campaign_id, campaign_type from marts.dim_campaign order by 1"
    before = pipeline.query(shown)
    campaign, right = before[0]
    change = (
        "update raw_marketing.campaigns set campaign_type = '{}', updated_at = updated_at + interval '1 day'"
        f" where campaign_id = {campaign}"
    )
    pipeline.execute(change.format("Type Z"))
    build = ("build", "--select", "stg_marketing__campaigns+", "--exclude-resource-type", "unit_test")
    results = pipeline.dbt(*build, succeeds=False)
    assert results["dim_campaign"].status == "error"
    assert "audit: dim_campaign_type_known: 1 rows failed in marts.dim_campaign; nothing was published" in words(
        results["dim_campaign"].message
    )
    assert results["fct_campaign_contacts"].status == "skipped"
    assert pipeline.query(shown) == before
    pipeline.execute(change.format(right))
    pipeline.dbt(*build)
    assert pipeline.query(shown) == before


def test_bad_rows_never_reach_an_incremental_mart(pipeline: Pipeline) -> None:
    before = pipeline.marts()
    watermark = "select max(load_id) from ops.model_watermarks where model like '%fct_sales'"
    seen = pipeline.query(watermark)
    file = next(iter(sorted((pipeline.settings.home / "demo/landing/pos/transactions").glob("*.parquet"))))
    right = file.read_bytes()
    table = pq.read_table(file)
    week = table.schema.get_field_index("week")
    pq.write_table(table.set_column(week, "week", pa.array([54] * table.num_rows, pa.int64())), file)
    pipeline.load("pos.transactions")
    results = pipeline.dbt("build", "--exclude-resource-type", "test", "unit_test", succeeds=False)
    assert results["fct_sales"].status == "error"
    assert (
        f"audit: fct_sales_week_in_range: {table.num_rows} rows failed in marts.fct_sales; nothing was published"
        in words(results["fct_sales"].message)
    )
    assert results["fct_baskets"].status == "skipped"
    after = pipeline.marts()
    assert {name: after[name] for name in ("fct_sales", "fct_baskets")} == {
        name: before[name] for name in ("fct_sales", "fct_baskets")
    }
    assert pipeline.query(watermark) == seen

    file.write_bytes(right)
    pipeline.load("pos.transactions")
    pipeline.dbt("build", "--exclude-resource-type", "test", "unit_test")
    lines = "select count(*), sum(sales_value) from marts.fct_sales"
    raw = "select count(*), sum(sales_value::numeric(12, 2)) from raw_pos.transactions"
    assert pipeline.query(lines) == pipeline.query(raw)
    assert pipeline.query("select max(week) <= 53 from marts.fct_sales") == [(True,)]
