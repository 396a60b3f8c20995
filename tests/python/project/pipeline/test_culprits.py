"""A mart that fails names the load, the file and the row that did it."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from granary.dbt import manifest as dbt_manifest
from granary.dbt.culprits import blame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.python.project.pipeline.conftest import Pipeline

LINE = "(select ctid from raw_pos.transactions where _load_id = {load} order by _row offset 2 limit 1)"


@pytest.fixture(scope="module")
def manifest(pipeline: Pipeline) -> Mapping[str, Any]:
    pipeline.day(date(2017, 1, 10))
    return dbt_manifest.load(dbt_manifest.prepare(pipeline.settings))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("quantity = 2147483648", "integer out of range"),
        ("week = 54", "audit: fct_sales_week_in_range: 1 rows failed"),
        ("coupon_disc = -1", "audit: fct_sales_amounts_not_negative: 1 rows failed"),
    ],
)
def test_a_row_that_the_facts_cannot_hold_is_named(
    pipeline: Pipeline, manifest: Mapping[str, Any], change: str, reason: str
) -> None:
    load, unit = pipeline.query(
        "select load_id::bigint, unit from ops.load_audit where source = 'pos' and table_name = 'transactions'"
        " and rows_loaded >= 3 and superseded_by is null order by load_id offset 2 limit 1"
    )[0]
    row = LINE.format(load=load)
    ((number,),) = pipeline.query(f"select _row::bigint from raw_pos.transactions where ctid = {row}")
    pipeline.execute("create table public.line as select * from raw_pos.transactions where ctid = " + row)
    pipeline.execute(f"update raw_pos.transactions set {change} where ctid = {row}")
    try:
        failed = pipeline.dbt("run", "--select", "fct_sales", "--full-refresh", succeeds=False)["fct_sales"]
        message = " ".join(str(failed.message).split())
        assert reason in message
        node = manifest["nodes"]["model.grocer.fct_sales"]
        assert blame(pipeline.settings, manifest, node, pipeline.target, str(failed.message)) == (
            f"{unit}, row {number}, load {load} of pos.transactions"
        )
    finally:
        pipeline.execute(
            f"delete from raw_pos.transactions where _load_id = {load} and _row = {number}",
            "insert into raw_pos.transactions select * from public.line",
            "drop table public.line",
        )
    pipeline.dbt("run", "--select", "fct_sales", "--full-refresh")


def test_of_a_model_without_a_row_of_its_own_the_new_loads_are_named(
    pipeline: Pipeline, manifest: Mapping[str, Any]
) -> None:
    pipeline.execute(
        "insert into ops.load_audit select 99999, run_id, source, table_name, 'transactions/2017-01-31.parquet', 'x',"
        " null, 'loaded', 5, 5, 0, 0, 0, 0, 0, null, null, null, null, now(), now() from ops.load_audit"
        " where table_name = 'transactions' limit 1"
    )
    node = manifest["nodes"]["model.grocer.daily_sales"]
    found = blame(pipeline.settings, manifest, node, pipeline.target, "numeric field overflow")
    assert found == "new to it: transactions/2017-01-31.parquet (load 99999 of pos.transactions)"
    pipeline.execute("delete from ops.load_audit where load_id = 99999")
