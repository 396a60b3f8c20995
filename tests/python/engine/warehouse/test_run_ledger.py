"""What ran is in the ledger, with what it took; that it cannot be written is a warning and fails nothing."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from granary.dbt import step_times
from granary.load.api import load_table
from granary.load.declared_tables import keep_objectives
from granary.warehouse import retention, run_ledger, steps
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError
from granary.warehouse.run_ledger import Lag, Recorder, Run, recorded
from granary.warehouse.steps import Step
from tests.python.support.shop import Shop, table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from granary.warehouse.settings import Settings

    Rows = Callable[..., list[tuple[Any, ...]]]

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
ENDED = "select kind, name, status, cause, started_by, row_count, byte_count from ops.runs"


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Shop:
    found = Shop()
    monkeypatch.setattr("granary.load.api.SOURCES", {"shop": found.source(table())})
    monkeypatch.setattr("granary.load.declared_tables.SOURCES", {"shop": found.source(table())})
    return found


def test_what_is_done_inside_is_kept_with_who_began_it_and_what_it_took(
    warehouse: Settings, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRANARY_STARTED_BY", "schedule nightly")
    monkeypatch.setenv("GRANARY_RUN_ID", "around")
    with recorded(warehouse, "load", "shop") as run:
        run.count(7, 70)
    assert rows(ENDED) == [("load", "shop", "succeeded", None, "schedule nightly", 7, 70)]
    took = (
        "select parent_run_id, cpu_seconds >= 0, peak_memory_bytes > 1000000, finished_at >= started_at from ops.runs"
    )
    assert rows(took) == [("around", True, True, True)]


def test_how_it_ended_is_kept_and_what_was_raised_goes_on(warehouse: Settings, rows: Rows) -> None:
    with pytest.raises(GranaryError), recorded(warehouse, "load", "a"):
        raise GranaryError("the file is damaged", "a.csv", "ask for it again")
    with pytest.raises(KeyboardInterrupt), recorded(warehouse, "capture", "b"):
        raise KeyboardInterrupt
    with recorded(warehouse, "load", "c") as run:
        run.problem = "one of two tables failed"
    with recorded(warehouse, "load", "a trial", keeps=False):
        pass
    found = {name: (status, cause) for _, name, status, cause, *_ in rows(ENDED)}
    assert found.keys() == {"a", "b", "c"}
    assert found["a"][0] == "failed"
    assert found["a"][1].startswith("the file is damaged")
    assert found["b"][0] == "canceled"
    assert found["c"] == ("failed", "one of two tables failed")


def test_a_table_of_the_ledger_that_is_locked_is_waited_for_briefly(
    warehouse: Settings, rows: Rows, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, shop: Shop
) -> None:
    monkeypatch.setattr(run_ledger, "LOCK_SECONDS", 1)
    shop.put("monday", {"id": [1]})
    with connect(warehouse) as other:
        execute(other, "lock table ops.steps in access exclusive mode")
        assert load_table(warehouse, "shop", "orders", run_id="r").rows_loaded == 1
        other.rollback()
    assert "warning: the run ledger goes without steps: lock timeout after 1" in capfd.readouterr().err
    assert rows("select count(*) from ops.steps") == [(0,)]
    shop.put("tuesday", {"id": [2]})
    load_table(warehouse, "shop", "orders", run_id="r")
    assert rows("select count(*) from ops.steps") == [(1,)]


def test_a_load_is_a_step_of_its_run_and_one_activity(warehouse: Settings, rows: Rows, shop: Shop) -> None:
    shop.put("monday", {"id": [1, 2, None]})
    with recorded(warehouse, "load", "shop.orders") as run:
        load_table(warehouse, "shop", "orders", run_id=run.run.run_id)
    shop.put("tuesday", {"id": [3]}, error=GranaryError("it is damaged", "tuesday"))
    with pytest.raises(GranaryError):
        load_table(warehouse, "shop", "orders", run_id="second")
    step = "select name, relation, status, row_count, byte_count > 0, cpu_seconds >= 0, cause from ops.steps order by 3"
    assert rows(step) == [
        ("shop.orders", "raw_shop.orders", "failed", None, None, True, "it is damaged (tuesday)"),
        ("shop.orders", "raw_shop.orders", "succeeded", 2, True, True, None),
    ]
    assert rows("select stage, source, status, count(*) from ops.activities group by 1, 2, 3 order by 1, 3") == [
        ("load", "shop", "failed", 1),
        ("load", "shop", "succeeded", 1),
        ("run", None, "succeeded", 1),
    ]


def test_what_went_on_and_says_nothing_more_has_failed(warehouse: Settings, rows: Rows) -> None:
    run_ledger.keep(warehouse, [Run(name, "stream", name, NOON, "running") for name in ("dead", "alive")])
    with connect(warehouse) as connection:
        execute(connection, "update ops.runs set seen_at = now() - interval '11 minutes' where run_id = 'dead'")
        connection.commit()
    run_ledger.keep(warehouse, [Run("other", "job", "other", NOON, "running")])
    assert rows("select run_id, status, cause from ops.runs order by 1") == [
        ("alive", "running", None),
        ("dead", "failed", "its process ended without a word"),
        ("other", "running", None),
    ]


def test_a_beat_is_kept_beside_the_work_and_at_most_once_a_minute(warehouse: Settings, rows: Rows) -> None:
    asked = []

    def lags() -> list[Lag]:
        asked.append(1)
        return [Lag("shop", "stream", "orders[0]", 3, None, 1.5)]

    recorder = Recorder(warehouse, "stream", "shop")
    for clock, number in ((100.0, 1), (130.0, 2), (161.0, 3)):
        recorder.count(number)
        recorder.beat(clock, lags)
        assert recorder.writer
        recorder.writer.join()
    assert len(asked) == 2
    assert rows("select status, row_count from ops.runs") == [("running", 3)]
    assert rows("select source, part, message_count, seconds from ops.lags") == [("shop", "orders[0]", 3, 1.5)]
    recorder.end()
    assert rows("select status from ops.runs") == [("succeeded",)]


RESULTS: dict[str, Any] = {
    "metadata": {
        "invocation_id": "i1",
        "invocation_started_at": "2026-03-01T12:00:00.000000Z",
        "generated_at": "2026-03-01T12:01:00.000000Z",
    },
    "args": {"which": "build", "select": ["fct+"], "full_refresh": False},
    "results": [
        {
            "unique_id": "model.shop.fct",
            "status": "success",
            "execution_time": 2.0,
            "message": "INSERT 0 40",
            "relation_name": '"granary"."build"."fct"',
            "timing": [
                {"name": "compile", "started_at": "2026-03-01T12:00:10Z", "completed_at": "2026-03-01T12:00:11Z"},
                {"name": "execute", "started_at": "2026-03-01T12:00:11Z", "completed_at": "2026-03-01T12:00:12Z"},
            ],
        },
        {
            "unique_id": "test.shop.fct_grain.abc",
            "status": "fail",
            "execution_time": 0.01,
            "failures": 3,
            "message": "Got 3 results, configured to fail if != 0",
            "timing": [],
        },
        {"unique_id": "model.shop.after", "status": "skipped", "execution_time": 0, "message": "Skipping due to fail"},
        {
            "unique_id": "operation.granary.granary-on-run-end-0",
            "status": "error",
            "execution_time": 0.2,
            "message": "nothing was published",
        },
    ],
}
NODES = {
    "nodes": {
        "model.shop.fct": {"schema": "build", "name": "fct", "resource_type": "model", "config": {"group": "sales"}},
        "test.shop.fct_grain.abc": {"attached_node": "model.shop.fct", "name": "fct_grain", "resource_type": "test"},
    },
    "groups": {"group.shop.sales": {"name": "sales", "owner": {"name": "Sales", "email": "sales@example.com"}}},
}


def test_an_invocation_of_dbt_is_a_run_with_every_node_test_and_the_publish(
    warehouse: Settings, rows: Rows, tmp_path: Path
) -> None:
    (tmp_path / "run_results.json").write_text(json.dumps(RESULTS))
    (tmp_path / "manifest.json").write_text(json.dumps(NODES))
    step_times.keep_results(warehouse, tmp_path / "run_results.json", "i1", failed=True)
    assert rows("select kind, name, status, cause, row_count, started_at, finished_at from ops.runs") == [
        ("dbt", "build fct+", "failed", "fct_grain: Got 3 results, configured to fail if != 0", 40, NOON, after(60))
    ]
    assert rows("select kind, name, relation, status, row_count, seconds from ops.steps order by kind, name") == [
        ("model", "after", None, "skipped", None, 0),
        ("model", "fct", "build.fct", "succeeded", 40, 2),
        ("publish", "publish", None, "failed", None, 0.2),
        ("test", "fct_grain", "build.fct", "failed", 3, 0.01),
    ]
    assert rows("select started_at, finished_at from ops.steps where name = 'fct'") == [(after(10), after(12))]
    assert rows("select relation, owner, quality_score::int from ops.quality_scores") == [("build.fct", "Sales", 0)]


def test_an_incremental_model_has_the_rows_that_it_wrote_whose_statement_says_none(
    warehouse: Settings, rows: Rows, tmp_path: Path
) -> None:
    kinds = {"one": "overwrite_partitions", "two": "overwrite_partitions", "view": None}
    nodes = {
        f"model.shop.{name}": {
            "schema": "build",
            "name": name,
            "resource_type": "model",
            "config": {"incremental_strategy": strategy},
        }
        for name, strategy in kinds.items()
    }
    results = [
        {"unique_id": node, "status": "success", "execution_time": 1, "message": "DO", "timing": []}
        | {"relation_name": f'"granary"."build"."{one["name"]}"'}
        for node, one in nodes.items()
    ]
    (tmp_path / "run_results.json").write_text(json.dumps(RESULTS | {"results": results}))
    (tmp_path / "manifest.json").write_text(json.dumps({"nodes": nodes}))
    with connect(warehouse, autocommit=True) as connection:
        for invocation, count in (("i1", 30), ("i1", 4), ("another", 500)):
            execute(
                connection,
                "insert into ops.model_versions (model, is_whole, rows_inserted, rows_deleted, invocation_id)"
                " values ('build.one', false, $1, 9, $2)",
                count,
                invocation,
            )
    step_times.keep_results(warehouse, tmp_path / "run_results.json", "i1", failed=False)
    assert rows("select name, row_count from ops.steps order by name") == [("one", 34), ("two", 0), ("view", None)]
    assert rows("select row_count from ops.runs") == [(34,)]


@pytest.mark.parametrize(("failed", "kept"), [(True, 1), (False, 0)])
def test_an_invocation_that_left_no_results_has_failed_or_had_nothing_to_do(
    warehouse: Settings, rows: Rows, tmp_path: Path, failed: bool, kept: int
) -> None:
    (tmp_path / "run_results.json").write_text(json.dumps(RESULTS))
    step_times.keep_results(warehouse, tmp_path / "run_results.json", "another", failed=failed)
    assert rows("select count(*) from ops.runs where status = 'failed'") == [(kept,)]


def planted(warehouse: Settings) -> None:
    """Two loads of a day, one of an hour ago; the first is in a publish, a test fails, a model runs three times."""
    load = (
        "insert into ops.load_audit (load_id, run_id, source, table_name, unit, status, rows_read, rows_loaded,"
        " rows_quarantined, rows_deleted, bytes, seconds, data_at, started_at, finished_at) values"
        " ({id}, '', 'shop', 'orders', 'u{id}', 'loaded', 100, {good}, {bad}, 0, 1000, 10,"
        " now() - interval '{data} seconds', now() - interval '{began} seconds', now() - interval '{began} seconds')"
    )
    with connect(warehouse) as connection:
        execute(connection, load.format(id=1, good=90, bad=10, data=500, began=400))
        execute(connection, load.format(id=2, good=100, bad=0, data=864_000, began=300))
        execute(
            connection,
            "insert into ops.publishes (schema_name, invocation_id, started_at, finished_at, marts, rows_inserted,"
            " rows_deleted, loads_seen) values ('marts', 'i', now() - interval '110 seconds',"
            " now() - interval '100 seconds', '{fct}', 1, 0, '{\"shop\": 2}')",
        )
        connection.commit()
    taken = [Step("i", "test", f"t{number}", "raw_shop.orders", False, 0.1, 0) for number in (1, 2, 3)]
    taken.append(Step("i", "test", "t4", "raw_shop.orders", False, 0.1, 5, status="failed"))
    taken += [Step(f"r{seconds}", "model", "fct", "build.fct", False, seconds, 1_000_000) for seconds in (1, 2, 9)]
    run_ledger.keep(warehouse, (), taken)


def test_quality_is_the_share_of_rows_times_that_of_checks(warehouse: Settings, rows: Rows, shop: Shop) -> None:
    planted(warehouse)
    keep_objectives(warehouse)
    score = (
        "select source, owner, rows_read, rows_refused, check_count, checks_passed, quality_score::text"
        " from ops.quality_scores"
    )
    ((*found, number),) = rows(score)
    assert found == ["shop", "shop", 200, 10, 4, 3]
    assert float(number) == pytest.approx(0.95 * 0.75)


def test_latency_is_from_the_event_unless_that_is_history(warehouse: Settings, rows: Rows) -> None:
    """Load 1: an event 500 s ago, published 100 s ago. Load 2 is ten days old: it counts from its start, 300 s ago."""
    planted(warehouse)
    found = rows("select load_id, round(seconds_from_event), round(seconds_from_load) from ops.load_latency order by 1")
    assert [tuple(map(int, row)) for row in found] == [(1, 400, 300), (2, 200, 200)]
    percentiles = (
        "select source, load_count, round(event_seconds_p50), round(event_seconds_p95) from ops.source_latency"
    )
    assert [(name, *map(int, rest)) for name, *rest in rows(percentiles)] == [("shop", 2, 300, 390)]


def test_performance_of_a_stage_is_told_by_day_and_source(warehouse: Settings, rows: Rows) -> None:
    planted(warehouse)
    found = rows(
        "select stage, source, sum(activity_count)::int, sum(failed_count)::int, min(success_rate)::float,"
        " sum(row_count)::int, min(rows_per_second)::float from ops.stage_performance group by 1, 2 order by 1"
    )
    assert found == [
        ("build", "", 3, 0, 1.0, 3_000_000, 250_000.0),
        ("load", "shop", 2, 0, 1.0, 190, 9.5),
        ("publish", "", 1, 0, 1.0, 1, pytest.approx(0.1)),
        ("test", "", 4, 1, 0.75, 5, pytest.approx(12.5)),
    ]


def test_what_a_model_costs_a_million_rows(warehouse: Settings, rows: Rows) -> None:
    planted(warehouse)
    cost = "select name, run_count, seconds, seconds_p50, seconds_per_million_rows, share from ops.model_costs"
    assert rows(cost) == [("fct", 3, 12, 2, 4, 1)]


def test_sizes_are_kept_once_a_day_and_growth_is_told(warehouse: Settings, rows: Rows) -> None:
    run_ledger.keep(warehouse, [Run("r", "load", "x", NOON, "succeeded")])
    measured = "select count(*) from ops.table_sizes where relation = 'ops.load_audit' and byte_count > 0"
    assert rows(measured) == [(1,)]
    with connect(warehouse) as connection:
        execute(connection, "update ops.table_sizes set byte_count = 3000 where relation = 'ops.load_audit'")
        execute(connection, "insert into ops.table_sizes values (current_date - 10, 'ops.load_audit', 1000, 1)")
        connection.commit()
    run_ledger.keep(warehouse, [Run("r2", "load", "x", NOON, "succeeded")])
    growth = "select byte_count, grown_byte_count, bytes_per_day from ops.storage_growth where relation = $1"
    assert rows(growth, "ops.load_audit") == [(3000, 2000, 200)]


def test_old_records_go_and_what_runs_and_each_months_sizes_stay(warehouse: Settings, rows: Rows) -> None:
    run_ledger.keep(
        warehouse,
        [Run("old", "job", "j", NOON - timedelta(days=900), "succeeded"), Run("going", "job", "j", NOON, "running")],
        [Step("old", "model", "m", None, False, 1, 1, finished_at=NOON - timedelta(days=900))],
    )
    with connect(warehouse) as connection:
        execute(connection, "delete from ops.table_sizes")
        for day in (date(2024, 1, 1), date(2024, 1, 2)):
            execute(connection, "insert into ops.table_sizes values ($1, 'ops.x', 1, 1)", day)
        execute(connection, "update ops.runs set started_at = timestamptz '2024-01-01' where run_id = 'going'")
        connection.commit()
    gone = retention.prune(warehouse, 90)
    assert (gone["runs"], gone["steps"], gone["table_sizes"]) == (1, 1, 1)
    assert rows("select run_id from ops.runs") == [("going",)]
    assert rows("select measured_on from ops.table_sizes") == [(date(2024, 1, 1),)]


def test_only_what_succeeded_says_what_a_step_is_expected_to_take(warehouse: Settings) -> None:
    kept = [
        Step("r1", "model", "fct", None, False, 4, 1, finished_at=NOON),
        Step("r2", "model", "fct", None, False, 90, None, finished_at=after(200), status="failed"),
        Step("r2", "test", "grain", None, False, 1, 0, finished_at=after(200)),
    ]
    with connect(warehouse, role="transformer") as connection:
        steps.keep(connection, kept)
        assert steps.expected(connection, is_full=False) == {"fct": 4}
