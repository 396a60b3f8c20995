"""Dagster's runs are in the run ledger, whoever started them: how they ended, why, and who asked for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import pytest

from granary.dagster import run_records
from granary.warehouse.connection import connect, execute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[object, ...]]]

RUNS = "select name, status, cause, started_by from ops.runs order by name"


@dg.op
def work() -> None:
    """Do nothing."""


@dg.op
def fail() -> None:
    """Fail."""
    raise ValueError("the disk is full")


@dg.job(tags={"dagster/schedule_name": "nightly"})
def good() -> None:
    """Succeed."""
    work()


@dg.job
def bad() -> None:
    """Fail."""
    fail()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def test_how_runs_ended_is_kept_once(warehouse: Settings, rows: Rows, instance: dg.DagsterInstance) -> None:
    for job in (good, bad):
        job.execute_in_process(instance=instance, raise_on_error=False)
    assert len(run_records.keep_runs(warehouse, instance)) == 2
    assert rows(RUNS) == [
        ("bad", "failed", "ValueError: the disk is full", "Dagster's UI"),
        ("good", "succeeded", None, "schedule nightly"),
    ]
    assert rows("select bool_and(finished_at >= started_at) from ops.runs") == [(True,)]
    assert run_records.keep_runs(warehouse, instance) == []


def test_what_a_run_took_stays_when_it_is_known_how_it_ended(
    warehouse: Settings, rows: Rows, instance: dg.DagsterInstance
) -> None:
    result = good.execute_in_process(instance=instance)
    run_records.keep_usage(warehouse, result.dagster_run)
    assert rows("select status, cpu_seconds >= 0 from ops.runs") == [("running", True)]
    run_records.keep_runs(warehouse, instance)
    assert rows("select status, cpu_seconds >= 0, peak_memory_bytes > 1000000 from ops.runs") == [
        ("succeeded", True, True)
    ]


def test_a_locked_ledger_is_a_warning_and_the_next_look_keeps_it(
    warehouse: Settings,
    rows: Rows,
    instance: dg.DagsterInstance,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("granary.warehouse.run_ledger.LOCK_SECONDS", 1)
    good.execute_in_process(instance=instance)
    with connect(warehouse) as other:
        execute(other, "lock table ops.runs in access exclusive mode")
        assert run_records.keep_runs(warehouse, instance) == []
        other.rollback()
    assert "warning: the run ledger goes without the runs of Dagster" in capfd.readouterr().err
    assert len(run_records.keep_runs(warehouse, instance)) == 1
