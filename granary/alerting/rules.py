"""The rules: which conditions are signals, from where on, how grave they are, and what is said and done about them.

A rule is data. Its `sql` returns a row per condition that holds: subject, since, value, detail; $1 is the threshold, $2
the time. What SQL cannot ask is in granary/alerting/probes.py, under the rule's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.alerting import rule_queries as sql

if TYPE_CHECKING:
    from granary.warehouse.signals import Severity


@dataclass(frozen=True)
class Rule:
    """A kind of signal.

    `title` says of the subject what is wrong; `measured` what its value is, with `{value}` and `{threshold}`, and
    `{value:row}` where it is 1 row or 2 rows; `todo` is the next command, with `{subject}`, and `{follow}` for the
    one that reads a source as it changes. `runbook` is the name of a page in docs/engine/runbooks. A rule whose
    `per_source` is set has one cause where several tables of a source have it. One that `sums_up` counts what else
    is wrong: it is no cause of that.
    """

    kind: str
    title: str
    measured: str
    threshold: float | None
    severity: Severity
    runbook: str
    todo: str
    sql: str = ""
    per_source: bool = False
    sums_up: bool = False
    recurs: bool = False
    repaired: str = "is well again"


RULES = (
    Rule(
        "load_failed",
        "{subject} cannot be loaded",
        "{value:load} failed since the last that did not",
        None,
        "warning",
        "load-failed",
        "granary load {subject}",
        sql.LOAD_FAILED,
        per_source=True,
        repaired="is loaded again",
    ),
    Rule(
        "source_late",
        "{subject} is late",
        "{value:hour} old, {threshold} are agreed",
        None,
        "warning",
        "source-late",
        "granary load {subject}",
        per_source=True,
        repaired="has something new",
    ),
    Rule(
        "files_not_loaded",
        "{subject}: files lie there that are not loaded",
        "{value} of them, not counting those that wait for less than {threshold:hour}",
        1,
        "warning",
        "files-not-loaded",
        "granary load {subject} --dry-run",
        sql.FILES_NOT_LOADED,
    ),
    Rule(
        "schema_change",
        "{subject} is delivered in another shape than agreed",
        "{value:column} not as agreed; told for {threshold:hour}",
        24,
        "warning",
        "schema-change",
        "granary load {subject} --dry-run",
        sql.SCHEMA_CHANGE,
    ),
    Rule(
        "quarantine_growing",
        "{subject}: rows are refused",
        "{value:row} in the last 24 hours, over {threshold}",
        0,
        "warning",
        "quarantine",
        "granary quarantine list {subject}",
        sql.QUARANTINE_GROWING,
    ),
    Rule(
        "model_failed",
        "{subject} failed",
        "{value:row} at fault",
        None,
        "warning",
        "model-failed",
        "granary run",
        sql.MODEL_FAILED,
        repaired="is built and passes again",
    ),
    Rule(
        "publish_held",
        "{subject} holds publishing: readers see the marts as they were",
        "held by {value}",
        None,
        "warning",
        "publish-held",
        "granary status",
        sql.PUBLISH_HELD,
        repaired="holds nothing any more",
    ),
    Rule(
        "publish_old",
        "{subject}: what was loaded is not published",
        "{value:hour} since the first load that nobody sees, over {threshold}",
        26,
        "warning",
        "publish-held",
        "granary run",
        sql.PUBLISH_OLD,
        repaired="are published again",
    ),
    Rule(
        "run_unfinished",
        "{subject} neither ends nor goes on",
        "{value:hour}, over {threshold}",
        6,
        "critical",
        "dead-run",
        "granary runs",
        sql.RUN_UNFINISHED,
    ),
    Rule(
        "replication_lag",
        "{subject}: changes are not read in time",
        "{value:alarm}",
        None,
        "warning",
        "lost-replication-slot",
        "granary capture {subject} --status",
    ),
    Rule(
        "slot_held",
        "{subject} holds back the write-ahead log of the warehouse",
        "{value:byte}, over {threshold}",
        1 << 30,
        "warning",
        "disk-full",
        "granary doctor",
        sql.SLOT_HELD,
    ),
    Rule(
        "stream_lag",
        "{subject}: events are read late",
        "{value} s behind, over {threshold}",
        300,
        "warning",
        "stream-lag",
        "granary stream {subject} --status",
        sql.STREAM_LAG,
    ),
    Rule(
        "process_ended",
        "{subject}: what keeps it running has ended",
        "{value:minute} without a word, over {threshold}",
        10,
        "critical",
        "dead-service",
        "granary {follow}",
        sql.PROCESS_ENDED,
        repaired="is running, or has ended well",
    ),
    Rule(
        "run_failed",
        "the last of {subject} failed",
        "{value} in a row",
        None,
        "warning",
        "failed-run",
        "granary logs",
        sql.RUN_FAILED,
        repaired="succeed again",
    ),
    Rule(
        "success_rate",
        "{subject}: too much fails",
        "{value} of the steps of its stage succeeded in 24 hours, under {threshold}",
        0.95,
        "critical",
        "success-rate",
        "granary runs",
        sql.SUCCESS_RATE,
        sums_up=True,
    ),
    Rule(
        "quality_score",
        "{subject}: data quality is low",
        "score {value}, under {threshold}",
        0.99,
        "warning",
        "data-quality",
        "granary quarantine list",
        sql.QUALITY_SCORE,
        sums_up=True,
        repaired="is of good quality again",
    ),
    Rule(
        "latency",
        "{subject} come late",
        "{value} s from load to mart for one in twenty, over {threshold}",
        300,
        "warning",
        "slow-marts",
        "granary doctor",
        sql.LATENCY,
        repaired="come in time again",
    ),
    Rule(
        "disk_full",
        "{subject} is nearly full",
        "{value} of it is free, under {threshold}",
        0.1,
        "critical",
        "disk-full",
        "granary status --storage",
        repaired="has room again",
    ),
    Rule(
        "backup_old",
        "{subject} is too old",
        "{value:time} the agreed interval, over {threshold}",
        2,
        "critical",
        "backup",
        "granary backup",
        sql.BACKUP_OLD,
        repaired="is young enough again",
    ),
    Rule(
        "backup_log_old",
        "{subject} is not stored any more: what is new would be lost with this machine",
        "{value} s behind, over {threshold}",
        300,
        "critical",
        "backup",
        "granary status",
        sql.BACKUP_LOG_OLD,
        repaired="is stored again",
    ),
    Rule(
        "drill_failed",
        "{subject} failed: nobody knows that the backup can be restored",
        "by {value}",
        None,
        "critical",
        "backup",
        "granary drill",
        sql.DRILL_FAILED,
        repaired="passes again",
    ),
    Rule(
        "drill_old",
        "{subject} is too old",
        "{value:time} the agreed interval, over {threshold}",
        2,
        "warning",
        "backup",
        "granary drill",
        sql.DRILL_OLD,
        repaired="is young enough again",
    ),
    Rule(
        "twin_behind",
        "{subject} does not follow the marts",
        "{value} s behind, over {threshold}",
        600,
        "warning",
        "twin-behind",
        "granary twin sync",
        sql.TWIN_BEHIND,
        repaired="follows again",
    ),
    Rule(
        "delivery_failed",
        "{subject} is not delivered",
        "waiting: {value:row}",
        None,
        "warning",
        "delivery-failed",
        "granary deliver {subject}",
        sql.DELIVERY_FAILED,
        repaired="is delivered again",
    ),
    Rule(
        "delivery_behind",
        "{subject}: what was published is not delivered",
        "{value:hour}, over {threshold}",
        26,
        "warning",
        "delivery-failed",
        "granary deliver {subject}",
        sql.DELIVERY_BEHIND,
        repaired="is delivered again",
    ),
    Rule(
        "anomaly",
        "{subject} is not what it usually is",
        "{value:value} outside of what was expected",
        None,
        "warning",
        "anomaly",
        "granary anomalies show {subject}",
        sql.ANOMALY,
        recurs=True,
        repaired="is as usual again",
    ),
)
BY_KIND = {rule.kind: rule for rule in RULES}


def rule_of(kind: str) -> Rule:
    """Return the rule of a kind; a kind that only its finder knows, in `ops.signals`, has what every rule has."""
    title, measured = f"{{subject}}: {kind.replace('_', ' ')}", "{value}, and {threshold} is the limit"
    return BY_KIND.get(kind) or Rule(kind, title, measured, None, "warning", "", "granary status")
