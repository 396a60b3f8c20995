"""What keeps the marts as they were: rows that would vanish, and nodes that did not succeed; and what does not."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

from tests.python.support.command import granary

if TYPE_CHECKING:
    from tests.python.project.pipeline.conftest import Pipeline

BEGINS = date(2017, 1, 10)
BUILD = ("build", "--exclude-resource-type", "test", "unit_test")
HOLDS = "select split_part(node, '.', 3), reason from ops.publish_holds order by 1"
ROWS = "select count(*)::int from marts.{}"


@pytest.fixture(scope="module", autouse=True)
def beginning(pipeline: Pipeline) -> None:
    pipeline.execute("create schema kept", "create table kept.coupons as table raw_marketing.coupons")


def coupons(pipeline: Pipeline, share: str) -> None:
    """Leave the coupons of raw that a condition chooses."""
    pipeline.execute(
        "truncate raw_marketing.coupons", f"insert into raw_marketing.coupons select * from kept.coupons {share}"
    )


def test_marts_that_would_become_empty_keep_all_as_they_were_until_somebody_lets_them_through(
    pipeline: Pipeline,
) -> None:
    """No redemption has come yet: that coupon_performance reads them, too, is no reason to let it become empty."""
    before = pipeline.marts()
    mine, theirs, products = (before[mart][0] for mart in ("dim_coupon", "coupon_performance", "coupon_products"))
    holds = [
        ("coupon_performance", f"would shrink from {theirs} to 0 rows"),
        ("coupon_products", f"would shrink from {products} to 0 rows"),
        ("dim_coupon", f"would shrink from {mine} to 0 rows"),
    ]
    pipeline.execute("truncate raw_marketing.coupons")
    words = pipeline.said(*BUILD, succeeds=False)
    assert "nothing was published; marts stays as it was: " in words
    assert f"dim_coupon would shrink from {mine} to 0 rows" in words
    assert "or, if it is right as it is, let it through: dbt run-operation publish --args" in words
    assert pipeline.marts() == before
    assert pipeline.query(HOLDS) == holds

    # A run of something else publishes nothing either, and says so by its exit code; so does the operation.
    assert "would shrink from" in pipeline.said("run", "--select", "dim_store", succeeds=False)
    assert "would shrink from" in pipeline.said("run-operation", "publish", succeeds=False)
    assert "would shrink from" in pipeline.said(
        "run-operation", "publish", "--args", "{despite: [dim_coupon]}", succeeds=False
    )
    assert pipeline.marts() == before
    told = granary(pipeline.settings, "status")
    assert told.returncode == 1
    assert "Publishing is held, the marts stay as they were: " in told.stdout
    assert '--args "{despite: [coupon_performance, coupon_products, dim_coupon]}"' in told.stdout

    # The rows are back: nothing holds any more.
    coupons(pipeline, "")
    pipeline.dbt(*BUILD)
    assert pipeline.query(HOLDS) == []
    assert pipeline.marts() == before

    pipeline.execute("truncate raw_marketing.coupons")
    pipeline.dbt(*BUILD, succeeds=False)
    pipeline.dbt("run-operation", "publish", "--args", "{despite: [dim_coupon, coupon_performance, coupon_products]}")
    assert pipeline.query(ROWS.format("dim_coupon")) == [(0,)]
    assert pipeline.query(HOLDS) == []
    assert pipeline.query("select count(*) from ops.unpublished") == [(0,)]
    coupons(pipeline, "")
    pipeline.dbt(*BUILD)
    assert pipeline.marts() == before
    assert granary(pipeline.settings, "status").returncode == 0


@pytest.mark.parametrize(("share", "passes"), [(0.6, True), (0.4, False)])
def test_a_mart_keeps_half_of_its_rows_or_is_held(pipeline: Pipeline, share: float, passes: bool) -> None:
    coupons(pipeline, "")
    pipeline.dbt("run", "--select", "dim_coupon")
    before = pipeline.marts()["dim_coupon"]
    coupons(
        pipeline,
        f"where coupon_upc <= (select percentile_disc({share}) within group (order by coupon_upc)"
        " from (select distinct coupon_upc from kept.coupons) as them)",
    )
    pipeline.dbt("run", "--select", "dim_coupon", succeeds=passes)
    assert (pipeline.marts()["dim_coupon"] == before) is not passes
    coupons(pipeline, "")
    pipeline.dbt("run", "--select", "dim_coupon")
    assert pipeline.marts()["dim_coupon"] == before


def test_an_increment_that_takes_most_days_away_is_held(pipeline: Pipeline) -> None:
    """What was written by partition is counted by partition."""
    before = pipeline.marts()
    pipeline.execute(
        "delete from build.fct_sales where business_date <= '2017-01-08'",
        "insert into ops.unpublished (schema_name, mart, partition, invocation_id) select distinct 'marts',"
        " 'fct_sales', business_date::text, 'by hand' from marts.fct_sales where business_date <= '2017-01-08'",
    )
    assert "fct_sales would shrink from" in pipeline.said("run-operation", "publish", succeeds=False)
    assert pipeline.marts() == before
    pipeline.execute("insert into build.fct_sales select * from marts.fct_sales where business_date <= '2017-01-08'")
    pipeline.dbt("run-operation", "publish")
    assert pipeline.marts() == before


def test_what_the_project_does_not_have_any_more_holds_nothing(pipeline: Pipeline) -> None:
    """A model that was removed, a test that was, and a mart that waited to be published."""
    pipeline.execute(
        "insert into ops.publish_holds (schema_name, node, reason, invocation_id) values"
        " ('marts', 'model.grocer.fct_renamed', 'failed', 'x'), ('marts', 'test.grocer.gone', 'was skipped', 'x')",
        "insert into ops.unpublished (schema_name, mart, invocation_id) values ('marts', 'fct_renamed', 'x')",
    )
    pipeline.dbt("run", "--select", "dim_store")
    assert pipeline.query(HOLDS) == []
    assert pipeline.query("select count(*) from ops.unpublished") == [(0,)]


def test_a_hold_outlives_another_name_of_the_project(pipeline: Pipeline) -> None:
    """A node's id begins with its project's name; whatever that was, a failure holds until the node succeeds."""
    pipeline.execute(
        "insert into ops.publish_holds (schema_name, node, reason, invocation_id)"
        " values ('marts', 'model.formerly.fct_sales', 'failed', 'x')",
    )
    pipeline.dbt("run", "--select", "dim_store", succeeds=False)
    assert pipeline.query("select node, reason from ops.publish_holds") == [("model.grocer.fct_sales", "failed")]
    pipeline.dbt("run", "--select", "fct_sales")
    assert pipeline.query(HOLDS) == []


def test_how_the_last_run_of_dbt_ended_is_kept(pipeline: Pipeline) -> None:
    last = "select command, failures, warnings from ops.builds order by finished_at desc limit 1"
    pipeline.dbt("run", "--select", "dim_store")
    assert pipeline.query(last) == [("run", [], [])]
    pipeline.execute("alter table raw_crm.stores rename column store_id to number")
    pipeline.execute("drop view staging.stg_crm__stores cascade")
    pipeline.dbt(*BUILD, "--select", "stg_crm__stores", "dim_store", succeeds=False)
    command, failures, _ = pipeline.query(last)[0]
    assert command == "build"
    assert {(one["node"], one["status"]) for one in failures} >= {
        ("stg_crm__stores", "error"),
        ("dim_store", "skipped"),
    }
    pipeline.execute("alter table raw_crm.stores rename column number to store_id")
    pipeline.dbt(*BUILD)
    assert pipeline.query(HOLDS) == []
