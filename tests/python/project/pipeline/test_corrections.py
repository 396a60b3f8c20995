"""What the source corrects silently, and what somebody takes out of raw: the marts follow, or the build fails."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from demo import crm, retailer
from granary.load.api import load_table
from granary.warehouse.connection import connect, execute

if TYPE_CHECKING:
    from tests.python.project.pipeline.conftest import Pipeline

BEGINS = date(2017, 1, 10)
BUILD = ("build", "--exclude-resource-type", "test", "unit_test")


def correct(pipeline: Pipeline, table: str, change: str) -> None:
    """Change rows of the CRM, `updated_at` as it was, and load the table anew."""
    with connect(pipeline.settings, crm.database(pipeline.settings)) as connection:
        execute(connection, f"update {table} set {change}")
        connection.commit()
    with retailer.systems(pipeline.settings):
        load_table(pipeline.settings, "crm", table, full_refresh=True)


def sold(pipeline: Pipeline) -> int:
    """Return a product that is sold, is not fuel, and has one version."""
    rows = pipeline.query(
        "select product_id from build.fct_sales inner join build.dim_product using (product_id) where not is_inferred"
        " group by 1 having not bool_or(fct_sales.is_fuel) and count(distinct valid_from) = 1 order by count(*) desc, 1"
        " limit 1"
    )
    return int(rows[0][0])


def test_a_row_corrected_without_a_later_updated_at_reaches_snapshot_dimension_and_facts(pipeline: Pipeline) -> None:
    product = sold(pipeline)
    versions = f"select count(*) from snapshots.snap_crm__products where product_id = {product}"
    before, keys = pipeline.query(versions), "select count(distinct product_key) from marts.fct_sales"
    number = pipeline.query(keys)
    correct(
        pipeline, "products", f"product_type = 'GASOLINE-REG UNLEADED', brand = 'Private' where product_id = {product}"
    )
    pipeline.dbt(*BUILD)
    shown = f"select brand, product_type, is_fuel, is_current from marts.dim_product where product_id = {product}"
    assert pipeline.query(shown) == [("Private", "GASOLINE-REG UNLEADED", True, True)]
    assert pipeline.query(versions) == before
    assert pipeline.query(keys) == number
    assert pipeline.query(f"select distinct is_fuel from marts.fct_sales where product_id = {product}") == [(True,)]
    incremental = pipeline.marts()
    pipeline.dbt("run", "--full-refresh")
    assert pipeline.marts() == incremental
    pipeline.dbt(
        "test", "--select", "dimensions_reconcile_with_raw", "snap_crm__products", "int_product_versions_gapless"
    )


def test_a_correction_takes_the_place_of_what_a_build_saw_in_between(pipeline: Pipeline) -> None:
    """Back and forth, with an `updated_at` that goes back at last: no version more, and the values of raw."""
    history = "select household_id, dbt_valid_from, dbt_valid_to from snapshots.snap_crm__households order by 1, 2"
    before = pipeline.query(history)
    for change in ("age = '65+'", "age = null", "age = '19-24', updated_at = updated_at - interval '1 day'"):
        correct(pipeline, "households", f"{change} where household_id = 1")
        pipeline.dbt(*BUILD)
        assert pipeline.query(history) == before
        same = "select a.age is not distinct from d.age_range from raw_crm.households as a"
        same += " inner join personal.dim_household as d using (household_id) where d.is_current and household_id = 1"
        assert pipeline.query(same) == [(True,)]
    pipeline.dbt("test", "--select", "dimensions_reconcile_with_raw")


def test_a_dimension_that_differs_from_raw_in_one_value_is_found(pipeline: Pipeline) -> None:
    test = ("test", "--select", "dimensions_reconcile_with_raw")
    one = "is_current and product_id = (select min(product_id) from raw_crm.products)"
    pipeline.execute(f"update build.dim_product set brand = brand || '?' where {one}")
    found = pipeline.dbt(*test, succeeds=False)["dimensions_reconcile_with_raw"]
    assert (found.status, found.failures) == ("fail", 1)
    pipeline.execute(f"update build.dim_product set brand = trim(brand, '?') where {one}")
    pipeline.dbt(*test)


@pytest.mark.parametrize("counted_bytes", [268435456, 0], ids=["counted", "looked up by load"])
def test_an_increment_notices_that_raw_lost_loads_which_the_ledger_has(pipeline: Pipeline, counted_bytes: int) -> None:
    """Raw is emptied, and one corrected day comes after it."""
    scope = f"{{test_scope: new, counted_bytes: {counted_bytes}}}"
    test = ("test", "--select", "raw_reconciles_with_ledger", "--vars", scope)
    pipeline.execute("create schema if not exists kept", "create table kept.sales as table raw_pos.transactions")
    ledger = pipeline.query(
        "select count(*) from ops.load_audit where source = 'pos' and table_name = 'transactions' and status = 'loaded'"
        " and superseded_by is null and rows_loaded > 0"
    )[0][0]
    # A load would notice, and read everything again: here its own count is of the same opinion as the table.
    pipeline.execute(
        "delete from raw_pos.transactions",
        "update ops.raw_tables set row_count = 0 where source = 'pos' and table_name = 'transactions'",
    )
    file = sorted((pipeline.settings.home / "demo/landing/pos/transactions").glob("*.parquet"))[-1]
    right = file.read_bytes()
    table = pq.read_table(file)
    pq.write_table(table.slice(1), file)
    pipeline.load("pos.transactions")
    pipeline.dbt("run", "--select", "int_sales__changed_dates", "fct_sales", "--vars", scope)
    found = pipeline.dbt(*test, succeeds=False)["raw_reconciles_with_ledger"]
    assert found.failures == ledger - (table.num_rows > 1)
    file.write_bytes(right)
    pipeline.execute(
        "insert into raw_pos.transactions select * from kept.sales where _load_id not in"
        " (select load_id from ops.load_audit where superseded_by is not null)",
        "drop table kept.sales",
    )
    pipeline.load("pos.transactions")
    pipeline.dbt(*test)
    pipeline.dbt("run", "--select", "int_sales__changed_dates", "fct_sales", "--vars", scope)
    pipeline.dbt(*test)
