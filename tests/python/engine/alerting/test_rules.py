"""Each rule on its own: what is planted in the records is the signal that is found, and what is as agreed is none."""

from __future__ import annotations

from collections import namedtuple
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from granary.alerting import probes
from granary.alerting.rules import BY_KIND, RULES
from granary.warehouse.project import PROJECT
from tests.python.engine.alerting.conftest import NOW, loaded, run

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def found(settings: Settings, kind: str) -> list[tuple[Any, ...]]:
    """Return subject, since, value and detail of the signals of a kind."""
    look = probes.look(settings, [BY_KIND[kind]], now=NOW)
    assert look.blind == {}
    return [(one.subject, one.since, one.value, one.detail) for one in look.signals]


def test_a_load_that_failed_since_the_last_good_one(watched: Settings) -> None:
    loaded(watched, "receipts", "failed", NOW - 5 * HOUR, "before")
    loaded(watched, "receipts", "unchanged", NOW - 4 * HOUR)
    assert found(watched, "load_failed") == []
    loaded(watched, "receipts", "failed", NOW - 2 * HOUR, "first")
    loaded(watched, "receipts", "failed", NOW - HOUR, "second")
    loaded(watched, "of_earlier_times", "failed", NOW, "no longer declared")
    assert found(watched, "load_failed") == [("till.receipts", NOW - 2 * HOUR, 2, "second")]


def test_a_source_is_late_by_what_is_new_and_by_how_new_it_is(watched: Settings) -> None:
    loaded(watched, "receipts", "loaded", NOW - 36 * HOUR)
    assert found(watched, "source_late") == []
    run(watched, "update ops.load_audit set finished_at = finished_at - interval '1 hour'")
    assert found(watched, "source_late") == [
        ("till.receipts", NOW - HOUR, 37, "nothing new since 2026-03-10 17:00 UTC")
    ]
    run(watched, "update ops.load_audit set finished_at = $1, data_at = $2", NOW, NOW - 40 * HOUR)
    assert found(watched, "source_late") == [
        ("till.receipts", NOW - 4 * HOUR, 40, "what comes is old since 2026-03-10 14:00 UTC")
    ]


def test_files_that_the_last_load_has_seen_and_not_taken(watched: Settings) -> None:
    loaded(watched, "receipts", "loaded", NOW)
    for unit, table, outcome, first, last in (
        ("odd.txt", "", "passed over", NOW - HOUR, NOW),
        ("copy", "receipts", "duplicate", NOW - 2 * HOUR, NOW),
        ("half", "receipts", "waiting", NOW - 30 * MINUTE, NOW),
        ("gone", "receipts", "duplicate", NOW - 9 * HOUR, NOW - 8 * HOUR),
        ("stuck", "receipts", "waiting", NOW - 3 * HOUR, NOW),
    ):
        run(
            watched,
            "insert into ops.files_not_loaded values ('till', $1, $2, $3, 'why', 1, $4, $5)",
            *(table, unit, outcome, first, last),
        )
    assert sorted(found(watched, "files_not_loaded")) == [
        ("till", NOW - HOUR, 1, "passed over"),
        ("till.receipts", NOW - 3 * HOUR, 2, "duplicate, waiting"),
    ]


def test_a_shape_that_is_not_as_agreed(watched: Settings) -> None:
    for column, change, hours in (("a", "added", 2), ("b", "retyped", 1), ("c", "renamed", 1), ("d", "missing", 25)):
        run(
            watched,
            "insert into ops.schema_changes (load_id, source, table_name, column_name, change, detail, seen_at)"
            " values (1, 'till', 'receipts', $1, $2, '', $3)",
            *(column, change, NOW - hours * HOUR),
        )
    assert found(watched, "schema_change") == [("till.receipts", NOW - 2 * HOUR, 2, "a is added, b is retyped")]


def test_a_quarantine_that_grows(watched: Settings) -> None:
    for number, status, hours in ((1, "open", 3), (2, "open", 2), (3, "dropped", 1), (4, "open", 30)):
        run(
            watched,
            "insert into ops.quarantine (identity, load_id, source, table_name, unit, row_number, column_name, reason,"
            " payload, contract_version, status, first_seen_at) values ($1, 1, 'till', 'receipts', 'u', 1, 'amount',"
            " 'no', '{}', 1, $2, $3)",
            *(str(number), status, NOW - hours * HOUR),
        )
    assert found(watched, "quarantine_growing") == [("till.receipts", NOW - 3 * HOUR, 2, "column amount")]


def test_a_target_that_refuses_rows(watched: Settings) -> None:
    run(
        watched,
        "insert into ops.deliveries (delivery, target, publish_id, shows, erasures, columns)"
        " values ('shop_out', 'API', 1, 1, '', '{}')",
    )
    for key, is_dropped, hours in (("1", False, 3), ("2", False, 2), ("3", True, 1), ("4", False, 30)):
        run(
            watched,
            "insert into ops.delivered_rows (delivery, key, op, reason, is_dropped, first_refused_at, refused_at)"
            " values ('shop_out', $1, 'insert', 'no', $2, $3, $3)",
            *(key, is_dropped, NOW - hours * HOUR),
        )
    assert found(watched, "quarantine_growing") == [
        ("deliveries.shop_out", NOW - 3 * HOUR, 2, "its target refuses them")
    ]


def test_a_mart_that_would_shrink_holds_and_a_build_without_an_end(watched: Settings) -> None:
    hold = "insert into ops.publish_holds values ('marts', $1, $2, 'i', $3)"
    run(watched, hold, "model.shop.m39", "would shrink from 10 to 2 rows", NOW - HOUR)
    run(watched, hold, "model.shop.m1", "has not finished", NOW - 5 * HOUR)
    run(watched, hold, "model.shop.m2", "has never had data", NOW - 50 * HOUR)
    assert found(watched, "publish_held") == [("m39", NOW - HOUR, None, "would shrink from 10 to 2 rows")]
    assert found(watched, "run_unfinished") == found(watched, "model_failed") == []
    run(watched, "update ops.publish_holds set since = $1 where reason = 'has not finished'", NOW - 7 * HOUR)
    assert found(watched, "run_unfinished") == [("the run of dbt", NOW - 7 * HOUR, 7, "1 nodes have not finished")]


def test_what_was_loaded_and_nobody_sees(watched: Settings) -> None:
    loaded(watched, "receipts", "loaded", NOW - 27 * HOUR)
    assert found(watched, "publish_old") == []  # nothing was ever published
    run(
        watched,
        "insert into ops.publishes (schema_name, invocation_id, started_at, finished_at, marts, rows_inserted,"
        " rows_deleted, loads_seen) values ('marts', 'i', $1, $1, '{m39}', 1, 0, '{}')",
        NOW - 30 * HOUR,
    )
    assert found(watched, "publish_old") == [("marts", NOW - HOUR, 27, "")]
    run(
        watched,
        "insert into ops.whole_builds (fingerprint, publish_id, loads)"
        " select 'project', 1, jsonb_build_object(source, max(load_id)) from ops.load_audit group by source",
    )
    assert found(watched, "publish_old") == []  # a build has seen it, and found no difference


def test_a_stream_that_is_behind(watched: Settings) -> None:
    lag = "insert into ops.lags (source, kind, part, message_count, seconds, seen_at)"
    lag += " values ('events', $1, $2, 40, $3, $4)"
    run(watched, lag, "stream", "scans[0]", 10.0, NOW)
    run(watched, lag, "slot", "granary", 5000.0, NOW)
    assert found(watched, "stream_lag") == []
    run(watched, lag, "stream", "scans[1]", 400.0, NOW)
    assert found(watched, "stream_lag") == [("events", NOW - timedelta(seconds=400), 400, "40 messages wait")]


class Ran(NamedTuple):
    kind: str
    name: str
    status: str
    started: datetime
    seen: datetime


def ran(settings: Settings, one: Ran, cause: str | None = None) -> None:
    run(
        settings,
        "insert into ops.runs (run_id, kind, name, started_at, finished_at, status, cause, seen_at)"
        " values ($1, $2, $3, $4, case when $5 <> 'running' then $6::timestamptz end, $5, $7, $6)",
        f"{one.started:%H%M}{one.kind}{one.name}",
        *(one.kind, one.name, one.started, one.status, one.seen, cause),
    )


def test_a_process_that_is_gone(watched: Settings) -> None:
    ran(watched, Ran("stream", "events", "failed", NOW - 9 * HOUR, NOW - 8 * HOUR), "the broker is away")
    ran(watched, Ran("stream", "events", "running", NOW - 7 * HOUR, NOW - MINUTE))
    ran(watched, Ran("capture", "office", "succeeded", NOW - 9 * HOUR, NOW - 8 * HOUR))
    assert found(watched, "process_ended") == []
    run(watched, "update ops.runs set seen_at = $1 where status = 'running'", NOW - 15 * MINUTE)
    ran(watched, Ran("capture", "office", "failed", NOW - 2 * HOUR, NOW - HOUR), "the slot is gone")
    assert found(watched, "process_ended") == [
        ("office", NOW - HOUR, 60, "the slot is gone"),
        ("events", NOW - 15 * MINUTE, 15, "no word of its end"),
    ]


def test_a_run_that_failed_says_nothing_of_its_causes(watched: Settings) -> None:
    ran(watched, Ran("job", "everything", "failed", NOW - 9 * HOUR, NOW - 8 * HOUR))
    ran(watched, Ran("job", "daily", "succeeded", NOW - 7 * HOUR, NOW - 6 * HOUR))
    assert found(watched, "run_failed") == []
    for hours in (4, 2):
        cause = "row (Ada Lovelace) is twice"
        ran(watched, Ran("job", "everything", "failed", NOW - hours * HOUR, NOW - (hours - 1) * HOUR), cause)
    ran(watched, Ran("job", "everything", "running", NOW - HOUR, NOW))
    assert found(watched, "run_failed") == [("runs", NOW - 3 * HOUR, 2, "job everything, `granary logs 0400jobe`")]


def steps(settings: Settings, kind: str, name: str, status: str, at: datetime, count: int = 1) -> None:
    run(
        settings,
        "insert into ops.steps (run_id, kind, name, relation, is_full, seconds, finished_at, status)"
        " select 'r' || n, $1, $2, $3, false, 1, $4, $5 from generate_series(1, $6::int) as n",
        *(kind, name, f"build.{name}", at, status, count),
    )


def test_too_much_that_fails(watched: Settings) -> None:
    steps(watched, "model", "m1", "succeeded", NOW - HOUR, 18)
    steps(watched, "model", "m2", "failed", NOW - HOUR)
    assert found(watched, "success_rate") == []  # 18 of 19, but of so few it says nothing
    steps(watched, "model", "m3", "skipped", NOW - HOUR, 30)
    steps(watched, "model", "m4", "succeeded", NOW - HOUR)
    assert found(watched, "success_rate") == []  # 19 of 20 is 0.95
    steps(watched, "model", "m5", "failed", NOW - 2 * HOUR)
    assert found(watched, "success_rate") == [
        ("m2", NOW - HOUR, pytest.approx(19 / 21), "failed 1 times (build)"),
        ("m5", NOW - 2 * HOUR, pytest.approx(19 / 21), "failed 1 times (build)"),
    ]
    look = probes.look(watched, [BY_KIND["success_rate"]], now=NOW)
    assert {one.severity for one in look.signals} == {"critical"}
    run(watched, "update ops.steps set finished_at = $1 where name in ('m2', 'm5')", NOW - 25 * HOUR)
    assert found(watched, "success_rate") == []


def test_quality_that_is_low(watched: Settings) -> None:
    steps(watched, "test", "m2_unique", "succeeded", NOW)
    assert found(watched, "quality_score") == []
    steps(watched, "test", "m2_known", "failed", NOW)
    run(watched, "update ops.steps set relation = 'build.m2'")
    run(
        watched,
        "insert into ops.load_audit (load_id, run_id, source, table_name, unit, status, rows_read, rows_loaded,"
        " rows_quarantined, rows_deleted, bytes, seconds, started_at) values (1, 'r', 'till', 'receipts', 'u',"
        " 'loaded', 1000, 980, 20, 0, 0, 0, now())",
    )
    assert sorted(found(watched, "quality_score")) == [
        ("m2", None, 0.5, "0 of 0 rows refused in 7 days, 1 of 2 checks do not pass"),
        ("till.receipts", None, 0.98, "20 of 1000 rows refused in 7 days, 0 of 0 checks do not pass"),
    ]


def test_marts_that_come_late(watched: Settings) -> None:
    loaded(watched, "receipts", "loaded", NOW - 10 * MINUTE)
    publish = (
        "insert into ops.publishes (schema_name, invocation_id, started_at, finished_at, marts, rows_inserted,"
        " rows_deleted, loads_seen) select 'marts', 'i', $1, $1, '{m39}', 1, 0,"
        " jsonb_build_object('till', max(load_id)) from ops.load_audit"
    )
    run(watched, publish, NOW - 5 * MINUTE)
    assert found(watched, "latency") == []
    run(watched, "update ops.publishes set finished_at = $1", NOW - 4 * MINUTE)
    assert found(watched, "latency") == [("marts", NOW - 10 * MINUTE, 360, "1 loads in 24 hours")]


def test_a_disk_that_is_nearly_full(watched: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("granary.alerting.probes.shutil.disk_usage", lambda _: usage(100e9, 89e9, 11e9))
    assert found(watched, "disk_full") == []
    monkeypatch.setattr("granary.alerting.probes.shutil.disk_usage", lambda _: usage(100e9, 91e9, 9e9))
    assert found(watched, "disk_full") == [("the disk", None, 0.09, "9.0 of 100.0 GB are free")]


def backed_up(settings: Settings, kind: str, at: datetime, *, well: bool = True, problem: str = "") -> None:
    """Have the ledger know of a backup, or of a drill."""
    run(
        settings,
        "insert into ops.backups (kind, name, place, started_at, finished_at, succeeded, detail)"
        " values ($1, 'x', '/mnt', $2, $2, $3, jsonb_build_object('problem', $4::text))",
        *(kind, at, well, problem),
    )


def test_a_backup_its_log_and_a_drill_are_too_old(watched: Settings) -> None:
    kinds = ("backup_old", "backup_log_old", "drill_old", "drill_failed")
    run(
        watched,
        "insert into ops.backup_state (place, since, every_seconds, drill_seconds) values ('/mnt', $1, 3600, 7200)",
        NOW - 4 * HOUR,
    )
    assert found(watched, "backup_old") == [("the last backup at /mnt", NOW - 3 * HOUR, 4, "")]
    assert [found(watched, kind) for kind in kinds[1:]] == [[], [], []]
    backed_up(watched, "full", NOW - 2 * HOUR)
    backed_up(watched, "incremental", NOW - HOUR, well=False)
    backed_up(watched, "drill", NOW - 4 * HOUR)
    run(watched, "update ops.backup_state set log_at = $1", NOW - 5 * MINUTE)
    assert [found(watched, kind) for kind in kinds] == [[], [], [], []]
    run(watched, "update ops.backups set finished_at = finished_at - interval '1 minute'")
    run(watched, "update ops.backup_state set log_at = $1, problem = 'the disk is full'", NOW - 6 * MINUTE)
    backed_up(watched, "drill", NOW - MINUTE, well=False, problem="mart marts.takings: its digest is another")
    assert [found(watched, kind) for kind in kinds] == [
        [("the last backup at /mnt", NOW - 61 * MINUTE, 121 / 60, "the disk is full")],
        [("the log at /mnt", NOW - 6 * MINUTE, 360, "the disk is full")],
        [("the last drill at /mnt", NOW - 121 * MINUTE, 241 / 120, "")],
        [("the drill at /mnt", NOW - MINUTE, None, "mart marts.takings: its digest is another")],
    ]
    backed_up(watched, "drill", NOW)
    assert [found(watched, kind) for kind in kinds[2:]] == [[], []]


def test_the_twin_is_behind_a_publish_for_too_long(watched: Settings) -> None:
    run(
        watched,
        "insert into ops.publishes"
        " (schema_name, invocation_id, started_at, finished_at, marts, rows_inserted, rows_deleted, loads_seen)"
        " values ('marts', 'x', $1, $1, '{}', 0, 0, '{}')",
        NOW - 10 * MINUTE,
    )
    assert found(watched, "twin_behind") == []
    run(watched, "insert into ops.twin_state (copy, publish_id, seen_at) values ('twin', 0, $1)", NOW)
    assert found(watched, "twin_behind") == []
    run(watched, "update ops.publishes set finished_at = $1", NOW - 11 * MINUTE)
    assert found(watched, "twin_behind") == [("the columnar twin", NOW - 11 * MINUTE, 660, "1 publishes are not in it")]
    run(watched, "update ops.twin_state set publish_id = (select max(publish_id) from ops.publishes)")
    assert found(watched, "twin_behind") == []


def test_a_delivery_fails_or_is_behind_a_publish(watched: Settings) -> None:
    run(
        watched,
        "insert into ops.publishes"
        " (schema_name, invocation_id, started_at, finished_at, marts, rows_inserted, rows_deleted, loads_seen)"
        " values ('marts', 'x', $1, $1, '{}', 0, 0, '{}')",
        NOW - 27 * 60 * MINUTE,
    )
    run(
        watched,
        "insert into ops.deliveries (delivery, target, publish_id, shows, erasures, columns)"
        " select 'shop_out', 'API', max(publish_id), max(publish_id), '', '{}' from ops.publishes",
    )
    assert [found(watched, f"delivery_{kind}") for kind in ("failed", "behind")] == [[], []]
    run(watched, "update ops.deliveries set publish_id = 0")
    assert found(watched, "delivery_behind") == [("shop_out", NOW - 27 * 60 * MINUTE, 27, "API")]
    run(watched, "update ops.deliveries set failed_at = $1, error = 'it is gone'", NOW - MINUTE)
    run(watched, "insert into ops.delivered_rows (delivery, key, batch, op) values ('shop_out', '{}', 1, 'insert')")
    assert found(watched, "delivery_behind") == []
    assert found(watched, "delivery_failed") == [("shop_out", NOW - MINUTE, 1, "it is gone")]


def test_an_anomaly_holds_while_it_is_open_and_not_muted(watched: Settings) -> None:
    for column, ago, muted, over in (
        ("", 2, "false", None),
        ("price", 1, "false", None),
        ("a", 1, "true", None),
        ("b", 1, "false", NOW),
    ):
        run(
            watched,
            "insert into ops.anomalies (source, table_name, column_name, metric, day, unit, value, low, expected, high,"
            " message, muted, first_seen_at, closed_at, closed_because)"
            " values ('till', 'receipts', $1::text, 'rows', $2, '', 5, 8, 10, 12, $1::text || ' is 5, of 8 to 12',"
            " $3::boolean, $4, $5::timestamptz, case when $5::timestamptz is not null then 'passed' end)",
            *(column, NOW.date(), muted, NOW - ago * HOUR, over),
        )
    assert found(watched, "anomaly") == [("till.receipts", NOW - HOUR, 2, "price is 5, of 8 to 12")]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_each_rule_can_be_asked_and_has_a_page_that_says_when_it_is_over(rule: Any) -> None:
    assert rule.sql or rule.kind in probes.PROBES
    page = (PROJECT / "docs" / "engine" / "runbooks" / f"{rule.runbook}.md").read_text()
    assert page.startswith("# ")
    assert "{subject}" in rule.title
