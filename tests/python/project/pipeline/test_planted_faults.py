"""Every data test fails on a fault that is planted for it, and an audited mart never shows one."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from granary.warehouse.connection import connect, execute, query

if TYPE_CHECKING:
    from tests.python.project.pipeline.conftest import Pipeline

# What breaks a test that says more than its kind. {t} is the table that the test is about.
FAULTS = {
    "load_health_share_in_range": "update ops.load_audit set rows_quarantined = rows_loaded * -9 - 1",
    "int_product_versions_gapless": "update snapshots.snap_crm__products"
    " set dbt_valid_to = dbt_valid_from - interval '1 day'",
    "int_household_versions_gapless": "update snapshots.snap_crm__households"
    " set dbt_valid_to = dbt_valid_from - interval '1 day'",
    "dim_product_gapless": "update {t} set valid_to = valid_from",
    "dim_household_gapless": "update {t} set valid_to = valid_from",
    "daily_sales_counts_sound": "update {t} set household_count = basket_count + 1",
    "daily_sales_reconcile_with_sales": "update {t} set discount_value = discount_value + 0.01"
    " where ctid = (select min(ctid) from {t})",
    "weekly_category_sales_counts_sound": "update {t} set basket_count = line_count + 1",
    "weekly_category_sales_reconcile_with_sales": "update {t} set sales_value = sales_value + 0.01"
    " where ctid = (select min(ctid) from {t})",
    "monthly_sales_days_sound": "update {t} set days_with_sales = 32",
    "monthly_sales_reconcile_with_sales": "update {t} set rolling_28d_sales = rolling_28d_sales + 0.01",
    "private_label_share_parts_add_up": "update {t} set fuel_value = fuel_value + 0.01"
    " where ctid = (select min(ctid) from {t})",
    "private_label_share_in_range": "update {t} set private_label_share = 1.01",
    "private_label_share_reconciles_with_sales": "update {t} set sales_value = sales_value + 0.01,"
    " unbranded_value = unbranded_value + 0.01"
    " where ctid = (select min(ctid) from {t})",
    "store_performance_counts_sound": "update {t} set household_count = basket_count + 1",
    "store_performance_reconciles_with_sales": "update {t} set sales_value = sales_value + 0.01"
    " where ctid = (select min(ctid) from {t})",
    "cohort_retention_counts_sound": "update {t} set active_household_count = cohort_size + 1",
    "cohort_retention_begins_whole": "update {t} set retention = 0.5 where months_since_first = 0",
    "cohort_retention_reconciles_with_sales": "update {t} set sales_value = sales_value + 0.01"
    " where ctid = (select min(ctid) from {t})",
    "cohorts_are_all_households": "update {t} set cohort_size = cohort_size + 1"
    " where ctid = (select min(ctid) from {t})",
    "household_value_dates_sound": "update {t} set last_purchase_date = as_of_date",
    "household_value_counts_sound": "update {t} set active_month_count = basket_count + 1",
    "household_value_lapsed_sound": "update {t} set is_lapsed = not is_lapsed where ctid = (select min(ctid) from {t})",
    "household_value_expected_sound": "update {t} set expected_90d_sales = -0.01"
    " where ctid = (select min(ctid) from {t})",
    "household_value_reconciles_with_sales": "update {t} set discount_value = discount_value + 0.01"
    " where ctid = (select min(ctid) from {t})",
    "household_value_backtest_errors_sound": "update {t} set mean_absolute_error = root_mean_square_error + 1",
    "household_value_backtest_reconciles_with_sales": "update {t} set actual_value = actual_value + 0.01"
    " where ctid = (select min(ctid) from {t})",
    "rfm_segments_cover_every_score": "delete from {t} where ctid = (select min(ctid) from {t})",
    "fct_baskets_counts_sound": "update {t} set line_count = 0",
    "fct_promotions_codes_known": "update {t} set display_location = '8' where ctid = (select min(ctid) from {t})",
    "fct_sales_amounts_not_negative": "update {t} set coupon_disc = -0.01 where ctid = (select min(ctid) from {t})",
    "fct_sales_date_is_new_york": "update {t} set business_date = business_date + 1"
    " where ctid = (select min(ctid) from {t})",
    "fct_sales_week_in_range": "update {t} set week = 54 where ctid = (select min(ctid) from {t})",
    "ledger_adds_up": "update {t} set rows_read = rows_read + 1 where status = 'loaded'",
    "raw_transactions_whole_cents": "update {t} set sales_value = sales_value + 0.005"
    " where ctid = (select min(ctid) from {t})",
    "product_performance_shares_sound": "update {t} set cumulative_share = 1.1"
    " where ctid = (select min(ctid) from {t})",
    "product_price_history_prices_sound": "update {t} set regular_price = loyalty_price - 0.01"
    " where ctid = (select min(ctid) from {t})",
    "basket_affinity_pairs_once": "update {t} set category_a = category_b, category_b = category_a"
    " where ctid = (select min(ctid) from {t})",
    "basket_affinity_counts_sound": "update {t} set both_basket_count = basket_count + 1"
    " where ctid = (select min(ctid) from {t})",
    "promotion_performance_codes_agree": "update {t} set promotion = case promotion when 'on' then 'off' else 'on' end"
    " where ctid = (select min(ctid) from {t})",
    "promotion_lift_weeks_sound": "update {t} set last_week = 54 where ctid = (select min(ctid) from {t})",
    "promotion_lift_sales_have_store_weeks": "update {t} set on_line_count = 1, on_store_weeks = 0"
    " where ctid = (select min(ctid) from {t})",
    "redemption_attribution_reasons_sound": "update {t} set is_traced = not is_traced"
    " where ctid = (select min(ctid) from {t})",
    "coupon_performance_counts_sound": "update {t} set traced_redemption_count = redemption_count + 1"
    " where ctid = (select min(ctid) from {t})",
    "campaign_performance_windows_marked": "update {t} set is_window_covered = not is_window_covered"
    " where contacted_household_count > 0",
    "campaign_performance_interval_sound": "update {t} set effect = 1, effect_low = 2, effect_high = 3"
    " where ctid = (select min(ctid) from {t})",
    "campaign_performance_counts_sound": "update {t} set redeeming_household_count = redemption_count + 1"
    " where ctid = (select min(ctid) from {t})",
    "affinities_reconcile_with_baskets": "update {t} set both_basket_count = both_basket_count + 1"
    " where ctid = (select min(ctid) from {t})",
    "attributions_reconcile_with_sales": "update {t} set coupon_disc = coupon_disc + 0.01"
    " where redemption_id = (select min(redemption_id) from {t} where is_traced)",
    "campaigns_reconcile_with_sales": "update {t} set before_sales_value = before_sales_value + 0.01"
    " where campaign_id = (select min(campaign_id) from {t} where before_sales_value is not null)",
    "coupons_reconcile_with_redemptions": "update {t} set redemption_count = redemption_count + 1"
    " where ctid = (select min(ctid) from {t})",
    "product_performance_reconciles_with_sales": "update {t} set regular_value = regular_value + 0.01"
    " where ctid = (select min(ctid) from {t})",
    "product_prices_reconcile_with_sales": "update {t} set sales_value = sales_value + 0.01"
    " where ctid = (select min(ctid) from {t})",
    "promotion_lift_reconciles_with_sales": "update {t} set unknown_sales_value = unknown_sales_value + 0.01"
    " where ctid = (select min(ctid) from {t})",
    "promotion_performance_reconciles_with_sales": "update {t} set sales_value = sales_value + 0.01"
    " where ctid = (select min(ctid) from {t})",
    "analysts_see_no_personal_column": "grant select on personal.dim_household to analyst",
    "baskets_reconcile_with_sales": "update build.fct_baskets set customer_paid = customer_paid + 0.01"
    " where ctid = (select min(ctid) from build.fct_baskets)",
    "campaign_contacts_reconcile_with_sales": "update intermediate.int_campaigns__contacts"
    " set sales_before = sales_before + 0.01"
    " where ctid = (select min(ctid) from intermediate.int_campaigns__contacts)",
    "dimensions_reconcile_with_raw": "delete from build.dim_coupon"
    " where coupon_upc = (select min(coupon_upc) from build.dim_coupon)",
    "household_months_reconcile_with_sales": "update intermediate.int_households__months set is_active = not is_active"
    " where ctid = (select min(ctid) from intermediate.int_households__months)",
    "promotions_reconcile_raw_to_marts": "delete from build.fct_promotions"
    " where ctid = (select min(ctid) from build.fct_promotions)",
    "raw_reconciles_with_ledger": "delete from raw_pos.transactions"
    " where ctid = (select min(ctid) from raw_pos.transactions)",
    "redemptions_reconcile_raw_to_marts": "delete from build.fct_coupon_redemptions"
    " where ctid = (select min(ctid) from build.fct_coupon_redemptions)",
    "redemptions_within_their_campaign": "update build.dim_campaign set end_date = start_date - 1",
    "streamed_events_come_from_a_load": "update ops.load_audit set rows_loaded = 0, rows_quarantined = rows_read"
    " where source = 'events'",
    "nothing_unusual_came": "insert into ops.anomalies"
    " (source, table_name, column_name, metric, day, unit, value, low, expected, high, message)"
    " values ('pos', 'transactions', '', 'rows', '2017-12-31', '', 1, 2, 3, 4, '1 row, expected 2 to 4')",
    "few_sales_are_of_unknown_members": "update build.dim_store set is_inferred = true",
    "promotions_are_of_the_week_of_their_file": "update raw_pos.promotions set week = week + 1"
    " where ctid = (select min(ctid) from raw_pos.promotions)",
    "sales_are_of_the_day_of_their_file": "update build.fct_sales set business_date = business_date + 1"
    " where ctid = (select min(ctid) from build.fct_sales)",
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
    pq.write_table(table.take(pa.array(range(table.num_rows)[::-1])), file)
    pipeline.load("pos.transactions")
    # The contract refuses such a week; here it is what somebody wrote into the raw table.
    pipeline.execute(
        "update raw_pos.transactions set week = 54 where _load_id = (select max(_load_id) from raw_pos.transactions)"
    )
    results = pipeline.dbt("build", "--exclude-resource-type", "test", "unit_test", succeeds=False)
    assert results["fct_sales"].status == "error"
    assert (
        f"audit: fct_sales_week_in_range: {table.num_rows} rows failed in marts.fct_sales; nothing was published"
        in words(results["fct_sales"].message)
    )
    assert f"They are of transactions/{file.name} (load " in words(results["fct_sales"].message)
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
