"""A mart that fails names the load, the file and the row that did it."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from granary.dbt import manifest as dbt_manifest
from granary.dbt.failing_rows import cause_of_failure
from granary.warehouse.project import PROJECT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.python.project.pipeline.conftest import Pipeline

BEGINS = date(2017, 1, 10)
LINE = "(select ctid from raw_pos.transactions where _load_id = {load} order by _row offset 2 limit 1)"


@pytest.fixture(scope="module")
def manifest(pipeline: Pipeline) -> Mapping[str, Any]:
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
        assert cause_of_failure(pipeline.settings, manifest, node, pipeline.target, str(failed.message)) == (
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
    found = cause_of_failure(pipeline.settings, manifest, node, pipeline.target, "numeric field overflow")
    assert found == "new to it: transactions/2017-01-31.parquet (load 99999 of pos.transactions)"
    pipeline.execute("delete from ops.load_audit where load_id = 99999")


def test_dbt_in_a_shell_names_the_row_and_the_sources_that_cannot_be_used(
    pipeline: Pipeline, manifest: Mapping[str, Any], tmp_path: Path
) -> None:
    """By the command `dbt`, with a source module that is not Python; its exit code is as before."""
    assert manifest
    load, unit, number = pipeline.query(
        "select _load_id::bigint, unit, _row::bigint from raw_pos.transactions"
        " inner join ops.load_audit on load_id = _load_id where superseded_by is null"
        " and source = 'pos' and rows_loaded >= 3 order by 1, 3 offset 2 limit 1"
    )[0]
    change = f"update raw_pos.transactions set quantity = {{}} where _load_id = {load} and _row = {number}"
    ((before,),) = pipeline.query(
        f"select quantity::text from raw_pos.transactions where _load_id = {load} and _row = {number}"
    )
    pipeline.execute(change.format(2147483648))
    broken = tmp_path / "sitecustomize.py"
    broken.write_text(
        "import granary.sources.discovery as sources\n"
        "from types import MappingProxyType\n"
        "from granary.warehouse.errors import GranaryError\n"
        "error = GranaryError('source till cannot be used: it is not Python', 'till.py, line 1', 'correct it')\n"
        "sources.BROKEN = MappingProxyType({'till': error})\n"
    )
    try:
        done = subprocess.run(
            [
                *(str(Path(sys.executable).with_name("dbt")), "run", "--select", "fct_sales", "--full-refresh"),
                *("--target-path", str(pipeline.target), "--log-path", str(tmp_path)),
            ],
            cwd=PROJECT,
            env=pipeline.settings.environment() | {"PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        pipeline.execute(change.format(before))
    assert done.returncode == 1, done.stdout
    assert "integer out of range" in done.stdout
    assert done.stderr.splitlines() == [
        "granary: warning: source till cannot be used: it is not Python (till.py, line 1); correct it",
        "granary: model fct_sales failed on what it is made from:"
        f" {unit}, row {number}, load {load} of pos.transactions",
    ]
    pipeline.dbt("run", "--select", "fct_sales", "--full-refresh")
