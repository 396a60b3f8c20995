"""One incident per cause: what is grouped, what is told when, and how an incident goes on and ends."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from granary.alerting import incidents, watch
from granary.alerting.config import Config
from granary.alerting.grouping import Graph, groups
from granary.alerting.rules import RULES
from granary.warehouse import signals
from granary.warehouse.connection import connect, execute
from granary.warehouse.errors import GranaryError, UsageError
from granary.warehouse.signals import Signal
from tests.python.engine.alerting.conftest import NOW, built, loaded, manifest, run, to_chat

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.settings import Settings

    Ask = Callable[..., list[tuple[Any, ...]]]

HOUR = timedelta(hours=1)
GRAPH = Graph(manifest())
QUIET = Config(rules=tuple(rule for rule in RULES if rule.kind not in ("disk_full", "slot_held")))
"""What a test does not plant is not looked at: the disk and slots of the machine that it runs on."""
OPEN = "select cause, severity, jsonb_array_length(signals) from ops.incidents where closed_at is null order by 1"
TOLD = "select incident_id, transition from ops.alerts order by alert_id"


def look(settings: Settings, after: timedelta = timedelta(0), config: Config = QUIET) -> None:
    watch.once(settings, config, now=NOW + after, deliver=False)


def chat(**more: Any) -> Config:
    return replace(to_chat(**more), rules=QUIET.rules)


def late(settings: Settings) -> None:
    """Have the receipts be 12 hours late: 36 hours are agreed."""
    loaded(settings, "receipts", "loaded", NOW - timedelta(hours=48))


def failing(settings: Settings, models: int = 40) -> None:
    built(settings, NOW, **{"stg_receipts": "error"}, **{f"m{number}": "skipped" for number in range(1, models)})


def test_a_late_file_and_what_follows_from_it_are_one_incident(watched: Settings, ask: Ask) -> None:
    late(watched)
    failing(watched)
    run(
        watched,
        "insert into ops.publishes (schema_name, invocation_id, started_at, finished_at, marts, rows_inserted,"
        " rows_deleted, loads_seen) values ('marts', 'i', $1, $1, '{m38,m39}', 1, 0, '{}')",
        NOW - timedelta(hours=50),
    )
    look(watched, config=chat())
    assert ask(OPEN) == [("till.receipts", "warning", 42)]  # late, 40 models, and what was loaded is not published
    assert ask(TOLD) == [(1, "opened")]
    ((told,),) = ask("select message from ops.alerts")
    assert told["title"] == "till.receipts is late"
    assert told["lines"] == [
        ["What", "48 hours old, 36 are agreed: nothing new since 2026-03-10 06:00 UTC"],
        ["Because of it", "41 more fail or are late: m1, m10, m11, m12, m13 and 36 more"],
        ["Since", "2026-03-11 18:00 UTC (12 hours)"],
        ["Owner", "shops"],
        ["Affected marts", "2: m38 (2 days old), m39 (2 days old)"],
        ["Affected dashboards and uses", "1: Sales (2 days old)"],
        ["Affected metrics", "1: sales (2 days old)"],
        ["Next", "`granary load till.receipts`"],
        ["All of it", "`granary incidents show 1`"],
        ["Runbook", "`granary guide runbooks/source-late`"],
    ]


def test_of_failures_what_is_most_upstream_is_the_cause(watched: Settings, ask: Ask) -> None:
    built(watched, NOW, m2="error", m2_unique="skipped", m3="skipped", m39="skipped")
    look(watched)
    assert ask(OPEN) == [("m2", "warning", 4)]
    assert ask("select owner from ops.incidents") == [("Analytics",)]


def test_of_a_mart_it_says_how_to_find_where_its_numbers_come_from(watched: Settings, ask: Ask) -> None:
    built(watched, NOW, m39="error")
    look(watched, config=chat())
    ((told,),) = ask("select message from ops.alerts")
    assert ["Where its numbers come from", "`granary explain marts.m39 --where CONDITION`"] in told["lines"]


def test_two_causes_are_two_incidents() -> None:
    graph = Graph(manifest())
    found = groups(
        [Signal("model_failed", "m5"), Signal("load_failed", "till.prices"), Signal("model_failed", "m9")], graph
    )
    assert {one.cause: [signal.subject for signal in one.signals] for one in found} == {
        "m5": ["m5", "m9"],
        "till.prices": ["till.prices"],
    }


def test_a_failing_test_is_the_cause_of_what_is_skipped_because_of_it_and_of_a_low_score() -> None:
    failed = [Signal("model_failed", name) for name in ("m3", "m39", "m2_unique")]
    found = groups([Signal("quality_score", "m2"), *failed], Graph(manifest()))
    assert [(one.cause, sorted(signal.subject for signal in one.signals)) for one in found] == [
        ("m2_unique", ["m2", "m2_unique", "m3", "m39"])
    ]
    alone = groups([Signal("quality_score", "m2"), Signal("model_failed", "m30")], Graph(manifest()))
    assert {one.cause for one in alone} == {"m2"}


def test_an_unusual_delivery_is_the_cause_of_what_begins_with_it_and_not_of_what_begins_days_later() -> None:
    def causes(hours: int) -> set[str]:
        unusual = Signal("anomaly", "till.receipts", NOW)
        return {one.cause for one in groups([unusual, Signal("model_failed", "m2", NOW + hours * HOUR)], GRAPH)}

    assert [causes(24), causes(25)] == [{"till.receipts"}, {"till.receipts", "m2"}]
    later = [Signal("model_failed", "m2_unique", NOW + 25 * HOUR), Signal("quality_score", "m2")]
    found = {one.cause: len(one.signals) for one in groups([Signal("anomaly", "till.receipts", NOW), *later], GRAPH)}
    assert found == {"till.receipts": 1, "m2_unique": 2}


def test_what_lowers_a_score_today_is_not_what_lowered_it_before(watched: Settings, ask: Ask) -> None:
    run(
        watched,
        "insert into ops.steps (run_id, kind, name, relation, is_full, seconds, finished_at, status)"
        " values ('r', 'test', 'warns', 'build.m2', false, 1, $1, 'warned')",
        NOW,
    )
    look(watched)
    loaded(watched, "receipts", "failed", NOW, "column amount is missing")
    look(watched)
    assert ask("select cause, closed_at is null, part_of from ops.incidents order by incident_id") == [
        ("m2", False, 2),
        ("till.receipts", True, None),
    ]


def test_what_a_cause_has_left_behind_when_it_is_repaired_is_the_same_incident(watched: Settings, ask: Ask) -> None:
    loaded(watched, "receipts", "failed", NOW - HOUR, "below its floor of 50%")
    look(watched, config=chat())
    loaded(watched, "receipts", "loaded", NOW + HOUR)
    built(watched, NOW + HOUR, m3="error")
    look(watched, 2 * HOUR, chat())
    assert ask("select cause, closed_at is null from ops.incidents") == [("m3", True)]
    assert ask(TOLD) == [(1, "opened"), (1, "updated")]


def unusual(settings: Settings, day: int, at: datetime) -> None:
    run(
        settings,
        "insert into ops.anomalies (source, table_name, column_name, metric, day, unit, value, low, expected, high,"
        " message, first_seen_at) values ('till', 'prices', '', 'rows', date '2026-03-01' + $1::int, '', 5, 8, 10, 12,"
        " 'few', $2)",
        day,
        at,
    )


def test_what_is_unusual_anew_in_the_same_table_is_told_while_the_first_is_open(watched: Settings, ask: Ask) -> None:
    unusual(watched, 1, NOW)
    look(watched, config=chat())
    look(watched, 2 * HOUR, chat())
    assert ask(TOLD) == [(1, "opened")]
    unusual(watched, 2, NOW + 2 * HOUR)
    look(watched, 3 * HOUR, chat())
    look(watched, 5 * HOUR, chat(escalate_after=timedelta(days=1)))
    assert ask(TOLD) == [(1, "opened"), (1, "updated")]
    assert ask("select since from ops.incidents") == [(NOW,)]
    ((told,),) = ask("select message from ops.alerts where transition = 'updated'")
    assert ["New", "till.prices"] in told["lines"]
    corrected = "update ops.anomalies set closed_at = now(), closed_because = 'corrected' where day = '2026-03-03'"
    run(watched, corrected)
    look(watched, 7 * HOUR, chat(escalate_after=timedelta(days=1)))
    assert ask(TOLD) == [(1, "opened"), (1, "updated")]


def test_what_is_said_of_all_marts_reaches_whatever_reads_one() -> None:
    below = Graph(manifest()).downstream("marts")
    assert (below.marts, below.uses, below.metrics) == (("m38", "m39"), ("exposure sales_page",), ("metric sales",))


def test_tables_of_a_source_that_all_fail_have_one_cause(watched: Settings, ask: Ask) -> None:
    for table in ("receipts", "prices"):
        loaded(watched, table, "failed", NOW, "the service refuses our key (401)")
    look(watched, config=chat())
    assert ask(OPEN) == [("till", "warning", 2)]
    ((told,),) = ask("select message from ops.alerts")
    assert told["title"] == "source till cannot be loaded (till.prices, till.receipts)"


def test_a_source_has_one_incident_for_all_that_is_wrong_with_a_table(watched: Settings, ask: Ask) -> None:
    loaded(watched, "receipts", "loaded", NOW - HOUR)
    loaded(watched, "receipts", "failed", NOW, "column amount is missing")
    run(
        watched,
        "insert into ops.schema_changes (load_id, source, table_name, column_name, change, detail, seen_at)"
        " values (1, 'till', 'receipts', 'amount', 'missing', '', $1)",
        NOW,
    )
    look(watched)
    assert ask(OPEN) == [("till.receipts", "warning", 2)]


def test_it_is_over_when_nothing_shows_it(watched: Settings, ask: Ask) -> None:
    loaded(watched, "receipts", "failed", NOW - HOUR, "below its floor of 50%")
    look(watched, config=chat())
    loaded(watched, "receipts", "loaded", NOW + HOUR)
    look(watched, 2 * HOUR, chat())
    assert ask(OPEN) == []
    assert ask(TOLD) == [(1, "opened"), (1, "closed")]
    ((told,),) = ask("select message from ops.alerts where transition = 'closed'")
    assert told["title"] == "till.receipts is loaded again"
    assert told["lines"][:2] == [
        ["It was", "till.receipts cannot be loaded"],
        ["From", "2026-03-12 05:00 UTC to 2026-03-12 08:00 UTC (3 hours)"],
    ]


def test_what_it_broke_keeps_it_open_when_the_cause_is_repaired(watched: Settings, ask: Ask) -> None:
    loaded(watched, "receipts", "failed", NOW, "no")
    built(watched, NOW, m2="error")
    look(watched)
    loaded(watched, "receipts", "loaded", NOW + HOUR)
    look(watched, 2 * HOUR)
    assert ask("select incident_id, cause from ops.incidents where closed_at is null") == [(1, "m2")]


def test_a_cause_that_shows_later_takes_over_what_it_broke(watched: Settings, ask: Ask) -> None:
    built(watched, NOW, m2="error")
    look(watched)
    loaded(watched, "receipts", "failed", NOW, "no")
    look(watched, HOUR)
    assert ask("select incident_id, cause from ops.incidents") == [(1, "till.receipts")]


def test_of_two_that_turn_out_to_be_one_the_other_says_so(watched: Settings, ask: Ask) -> None:
    built(watched, NOW, m2="error")
    loaded(watched, "prices", "failed", NOW, "the service refuses our key (401)")
    look(watched, config=chat())
    loaded(watched, "receipts", "failed", NOW + HOUR, "the service refuses our key (401)")
    look(watched, HOUR, chat())
    assert ask("select incident_id, cause, part_of, closed_at is null from ops.incidents order by 1") == [
        (1, "till", None, True),
        (2, "m2", 1, False),
    ]
    ((told,),) = ask("select message from ops.alerts where transition = 'closed'")
    assert told["title"] == "m2 is part of incident 1 now"
    assert told["lines"] == [["All of it", "`granary incidents show 1`"]]


def test_what_two_causes_share_makes_them_no_one_incident(watched: Settings, ask: Ask) -> None:
    """The run fails because of both; the first stays the first's."""
    run(
        watched,
        "insert into ops.runs (run_id, kind, name, started_at, finished_at, status)"
        " values ('r', 'job', 'everything', $1, $1, 'failed')",
        NOW,
    )
    built(watched, NOW, m2="error")
    look(watched)
    loaded(watched, "prices", "failed", NOW, "no")
    look(watched, HOUR)
    assert ask("select incident_id, cause, jsonb_array_length(signals) from ops.incidents order by 1") == [
        (1, "m2", 2),
        (2, "till.prices", 2),
    ]


def signals_are(settings: Settings, *found: Signal) -> None:
    with connect(settings) as connection:
        signals.keep(connection, "anomaly", found)
        connection.commit()


def test_a_signal_of_another_part_is_told_and_over_with_it(watched: Settings, ask: Ask) -> None:
    signals_are(watched, Signal("anomaly", "till.prices", NOW - HOUR, 12, 4, "critical", "pricing", "rows per day"))
    look(watched, config=chat())
    assert ask("select cause, severity, owner, since from ops.incidents") == [
        ("till.prices", "critical", "pricing", NOW - HOUR)
    ]
    signals_are(watched, Signal("anomaly", "till.prices", NOW, 13, 4))  # it began before
    assert ask("select since, value from ops.signals") == [(NOW - HOUR, 13)]
    signals_are(watched)
    look(watched, HOUR, chat())
    assert ask(OPEN) == []


def test_an_unknown_kind_of_signal_is_told_in_its_own_words(watched: Settings, ask: Ask) -> None:
    run(watched, "insert into ops.signals (kind, subject, detail) values ('backup_too_old', 'the backup', 'of Monday')")
    look(watched, config=chat())
    ((told,),) = ask("select message from ops.alerts")
    assert (told["title"], told["lines"][0]) == ("the backup: backup too old", ["What", "of Monday"])


def test_news_are_told_once_an_hour_and_graver_ones_at_once(watched: Settings, ask: Ask) -> None:
    loaded(watched, "receipts", "failed", NOW, "no")
    look(watched, config=chat())
    built(watched, NOW, m2="error")
    look(watched, timedelta(minutes=10), chat())
    assert len(ask(TOLD)) == 1
    built(watched, NOW + HOUR, m2="error", m3="skipped")
    look(watched, timedelta(minutes=70), chat())
    assert ask(TOLD)[-1] == (1, "updated")
    ((told,),) = ask("select message from ops.alerts where transition = 'updated'")
    assert ["New", "m2, m3"] in told["lines"]  # what was new ten minutes ago was not told yet
    signals_are(watched, Signal("anomaly", "till.receipts", severity="critical"))
    look(watched, timedelta(minutes=71), chat())
    assert len(ask(TOLD)) == 2  # the update that nobody was told yet is replaced by this one
    assert ask("select severity from ops.incidents") == [("critical",)]


def test_what_stays_open_is_told_again_and_escalated_until_somebody_takes_it_up(watched: Settings, ask: Ask) -> None:
    config = chat(escalate_after=4 * HOUR)
    loaded(watched, "receipts", "failed", NOW, "no")
    for hours in (0, 1, 3, 5, 6, 30):
        look(watched, hours * HOUR, config)
    assert ask(TOLD) == [(1, "opened"), (1, "escalated"), (1, "updated")]
    run(watched, "delete from ops.alerts")
    assert incidents.ack(watched, 1, "ada").acked_by == "ada"
    for hours in (33, 35):
        look(watched, hours * HOUR, replace(config, remind_after=HOUR))
    assert ask(TOLD) == []


def test_what_is_muted_is_not_told_and_comes_back(watched: Settings, ask: Ask) -> None:
    now = datetime.now(timezone.utc)
    config = chat(remind_after=HOUR, escalate_after=9 * HOUR)
    loaded(watched, "receipts", "failed", now, "no")
    watch.once(watched, config, now=now, deliver=False)
    incidents.mute(watched, 1, 8 * HOUR)
    for hours in (2, 7):
        watch.once(watched, config, now=now + hours * HOUR, deliver=False)
    assert ask(TOLD) == [(1, "opened")]
    watch.once(watched, config, now=now + 8 * HOUR + timedelta(minutes=1), deliver=False)
    assert ask(TOLD) == [(1, "opened"), (1, "updated")]


def test_one_that_is_over_can_be_neither_taken_up_nor_muted(watched: Settings) -> None:
    loaded(watched, "receipts", "failed", NOW, "no")
    look(watched)
    loaded(watched, "receipts", "loaded", NOW)
    look(watched)
    with pytest.raises(UsageError, match="incident 1 is over since 2026-03-12 06:00"):
        incidents.ack(watched, 1, "ada")
    with pytest.raises(UsageError, match="there is no incident 9"):
        incidents.mute(watched, 9, HOUR)


def test_what_comes_and_goes_is_one_incident(watched: Settings, ask: Ask) -> None:
    for minute in range(0, 50, 10):
        signals_are(watched, *([Signal("anomaly", "till.prices")] if minute % 20 == 0 else []))
        look(watched, timedelta(minutes=minute), chat())
    assert ask("select incident_id, times from ops.incidents") == [(1, 2)]
    assert ask(TOLD) == [(1, "opened"), (1, "closed"), (1, "updated")]
    signals_are(watched)
    look(watched, timedelta(minutes=60), chat())
    assert len(ask(OPEN)) == 1  # it was back already once, so it has to be gone for an hour
    look(watched, timedelta(minutes=121), chat())
    assert ask(OPEN) == []


@pytest.mark.parametrize("jump", [HOUR, timedelta(days=365)])
def test_a_clock_that_is_set_back_opens_nothing_twice_and_keeps_telling(
    watched: Settings, ask: Ask, jump: timedelta
) -> None:
    loaded(watched, "receipts", "failed", NOW, "no")
    config = chat(remind_after=timedelta(hours=24))
    look(watched, jump, config)
    look(watched, timedelta(0), config)
    assert ask("select incident_id, opened_at from ops.incidents") == [(1, NOW)]
    run(watched, "delete from ops.alerts")
    look(watched, timedelta(hours=25), config)
    assert len(ask(TOLD)) == 1
    loaded(watched, "receipts", "loaded", NOW)
    look(watched, timedelta(hours=26), config)
    assert ask(OPEN) == []


def test_a_clock_that_jumps_a_year_ahead_makes_one_incident_per_source(watched: Settings, ask: Ask) -> None:
    late(watched)
    loaded(watched, "prices", "loaded", NOW)
    look(watched, timedelta(days=365))
    assert ask(OPEN) == [("till", "warning", 2)]


def test_what_cannot_be_asked_stays_as_it_was(watched: Settings, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("granary.alerting.probes.LOCK_SECONDS", 0.05)
    loaded(watched, "receipts", "failed", NOW, "no")
    built(watched, NOW, m2="error")
    look(watched)
    built(watched, NOW + HOUR)
    with connect(watched) as other:
        execute(other, "lock table ops.load_audit in access exclusive mode")
        done = watch.once(watched, QUIET, now=NOW + HOUR, deliver=False)
    assert "load_failed" in done.blind
    assert "lock timeout" in done.blind["load_failed"]
    assert ask(OPEN) == [("till.receipts", "warning", 1)]  # the model is well again, of the load nobody knows


def test_tables_of_incidents_that_are_locked_are_said_and_lose_nothing(
    watched: Settings, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("granary.alerting.probes.LOCK_SECONDS", 0.05)
    loaded(watched, "receipts", "failed", NOW, "no")
    with connect(watched) as other:
        execute(other, "insert into ops.locks (name) values ('incidents') on conflict do nothing")
        execute(other, "select from ops.locks where name = 'incidents' for update")
        with pytest.raises(GranaryError, match="lock timeout"):
            look(watched)
    look(watched)
    assert ask(OPEN) == [("till.receipts", "warning", 1)]


def test_a_model_that_is_being_built_again_is_not_well_yet(watched: Settings, ask: Ask) -> None:
    hold = "insert into ops.publish_holds (schema_name, node, reason, invocation_id, since)"
    hold += " values ('marts', $1, $2, 'i', $3)"
    run(watched, hold, "model.shop.m2", "failed", NOW)
    run(watched, hold, "model.shop.m7", "has not finished", NOW)
    look(watched)
    assert ask(OPEN) == [("m2", "warning", 1)]
    run(watched, "update ops.publish_holds set reason = 'has not finished'")
    look(watched, HOUR)
    assert ask(OPEN) == [("m2", "warning", 1)]
    run(watched, "delete from ops.publish_holds")
    look(watched, HOUR)
    assert ask(OPEN) == []


def test_nothing_personal_is_told(watched: Settings, ask: Ask) -> None:
    run(
        watched,
        "insert into ops.quarantine (identity, load_id, source, table_name, unit, row_number, column_name, reason,"
        " payload, contract_version, first_seen_at) values ('x', 1, 'till', 'receipts', 'u', 3, 'member_id',"
        " 'is no number: Ada Lovelace', $1, 1, $2)",
        json.dumps({"member_id": "Ada Lovelace"}),
        NOW,
    )
    look(watched, config=chat())
    ((told, signals),) = ask(
        "select message::text, incidents.signals::text from ops.alerts join ops.incidents using (incident_id)"
    )
    assert "column member_id" in told
    assert "Lovelace" not in told + signals
