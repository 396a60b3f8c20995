"""What of the records in `ops` is kept, and for how long: one table of policies, applied once a day after a build.

Whatever a guarantee needs is kept for ever: so says each policy, and the tests hold it to that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg.errors import InsufficientPrivilege, LockNotAvailable, UndefinedTable

from granary.warehouse import steps
from granary.warehouse.connection import connect, count, execute, query
from granary.warehouse.errors import GranaryError
from granary.warehouse.project import project_vars
from granary.warehouse.steps import Step

if TYPE_CHECKING:
    from granary.warehouse.settings import Settings

DAYS = 90
"""Days for which records are kept that no guarantee needs, unless the project's var `record_days` says otherwise."""
STEP = "retention"
"""The step under which it is kept when the policies were applied last."""


@dataclass(frozen=True)
class Policy:
    """What of a table is kept. Without `aged`, the column with a row's time, that is all; else old rows go, `if` (SQL).

    In the condition the row is `old`.
    """

    table: str
    keeps: str
    aged: str = ""
    condition: str = "true"


POLICIES = (
    Policy(
        "load_audit",
        "every load that landed, was withdrawn, failed or was refused: rows, explanations, restatements and erasures"
        " name it; of looks that found nothing new, what freshness counts from (the first, the last, a watermark that"
        " moved), and what has a fingerprint, by which a delivery is known again",
        "finished_at",
        """old.status = 'unchanged' and old.fingerprint is null and exists (
            select from ops.load_audit as later where later.source = old.source
                and later.table_name = old.table_name and later.load_id > old.load_id and later.status = 'unchanged'
                and (later.watermark_after is null) = (old.watermark_after is null)
                and (later.rows_read > 0 or old.rows_read = 0)
        ) and exists (
            select from ops.load_audit as earlier where earlier.source = old.source
                and earlier.table_name = old.table_name and earlier.load_id < old.load_id
        ) and old.watermark_after is not distinct from (
            select before.watermark_after from ops.load_audit as before where before.source = old.source
                and before.table_name = old.table_name and before.load_id < old.load_id
                and (before.watermark_after is null) = (old.watermark_after is null)
            order by before.load_id desc limit 1
        )""",
    ),
    Policy(
        "quarantine",
        "open rows until somebody decides, replayed and dropped ones as the record of that; what a later delivery"
        " made void is kept for the time",
        "last_seen_at",
        "old.status = 'superseded'",
    ),
    Policy("files_not_loaded", "what a load has seen in that time", "last_seen_at"),
    Policy("schema_changes", "all: one that lasts is kept once, by comparison with the last of its column"),
    Policy("raw_tables", "a row per table: what is to be there"),
    Policy("watermarks", "a row per table: how far it was read"),
    Policy(
        "known_messages",
        "those of the last 35 days before the newest that landed in their table: no queue keeps a message for longer,"
        " but one that is told to",
        "landed_at",
        "old.landed_at < (select mark.updated_at - interval '35 days' from ops.watermarks as mark"
        " where mark.source = old.source and mark.table_name = old.table_name)",
    ),
    Policy("model_watermarks", "a row per model and source: which loads it holds"),
    Policy(
        "model_versions", "what a reader has not taken in yet, and the last of each model: a run deletes the others"
    ),
    Policy("model_states", "a row per model: what it has taken in"),
    Policy("erasures", "all: who is forgotten stays so"),
    Policy("erased_rows", "all: models follow erasures by them, and totals are explained by them"),
    Policy("erased_totals", "all: they explain what erasures took from closed months"),
    Policy(
        "profiles",
        "the last two of each relation, which drift is told from",
        "profiled_at",
        "old.profile_id not in (select kept.profile_id from ops.profiles as kept where kept.relation = old.relation"
        " order by kept.profile_id desc limit 2)",
    ),
    Policy(
        "model_audits",
        "the last audit of each model; within a run it stands for tests that are not computed again",
        "audited_at",
        "exists (select from ops.model_audits as later where later.model = old.model"
        " and later.audited_at > old.audited_at and later.invocation_id <> old.invocation_id)",
    ),
    Policy(
        "builds",
        "the last run of dbt, by which status and the next run go",
        "finished_at",
        "exists (select from ops.builds as later where later.schema_name = old.schema_name"
        " and later.finished_at > old.finished_at)",
    ),
    Policy("publishes", "all: restatements compare each with the one before"),
    Policy(
        "published_months",
        "the last of each mart and month, which the next publish and the floor start from, and every change to a month"
        " that had ended: those are restatements",
        "(select publishes.finished_at from ops.publishes where publishes.publish_id = old.publish_id)",
        """exists (
            select from ops.published_months as later
            inner join ops.publishes as its on later.publish_id = its.publish_id
            inner join ops.publishes as mine on old.publish_id = mine.publish_id and its.schema_name = mine.schema_name
            where later.mart = old.mart and later.business_month is not distinct from old.business_month
                and later.publish_id > old.publish_id
        ) and not coalesce((
            select max(before.last_date) >= cast(old.business_month + interval '1 month' as date) - 1
            from ops.publishes as before
            inner join ops.publishes as mine on old.publish_id = mine.publish_id
            where before.schema_name = mine.schema_name and before.publish_id < old.publish_id
        ), false)""",
    ),
    Policy(
        "published_marts",
        "of each mart what it was after the last publish, and after those that it can be shown as: a publish deletes"
        " the others (ops.prune_history)",
    ),
    Policy("unpublished", "what waits to be published; a publish empties it"),
    Policy("publish_holds", "what holds publishing, until it has succeeded"),
    Policy("whole_builds", "one row: the last build of the whole project"),
    Policy("runs", "what ran in that time", "started_at", "old.status <> 'running'"),
    Policy("steps", "what steps took in that time: estimates and `granary doctor` look at the last few", "finished_at"),
    Policy("lags", "a row per partition or slot: how far behind it was last", "seen_at"),
    Policy("objectives", "a row per table: who owns it, and what it may wait", "seen_at"),
    Policy(
        "table_sizes",
        "each day's in that time, and of older ones the first of each month",
        "measured_on",
        "extract(day from old.measured_on) > 1",
    ),
    Policy("signals", "a row per condition that holds: who finds it takes it away"),
    Policy("incidents", "what is open, and what is over for less", "closed_at", "old.closed_at is not null"),
    Policy("alerts", "those of incidents that are kept: they go with them"),
    Policy(
        "observations",
        "two years before the newest of each table: a day is compared with the weeks before it, and with a year ago",
        "observed_at",
        "old.day < (select max(newest.day) - 800 from ops.observations as newest where newest.source = old.source"
        " and newest.table_name = old.table_name)",
    ),
    Policy("anomalies", "open ones, and for the time those that are over", "closed_at"),
    Policy(
        "backups",
        "the last of each kind at each destination, by which their age is told",
        "finished_at",
        "exists (select from ops.backups as later where later.place = old.place and later.kind = old.kind"
        " and later.succeeded = old.succeeded and later.finished_at > old.finished_at)",
    ),
    Policy("backup_state", "a row per destination: how far the log is stored there"),
    Policy("twin_state", "a row per copy of the twin: which publish it has"),
    Policy("deliveries", "a row per delivery: how far it is"),
    Policy(
        "delivery_batches",
        "of each delivery the batches of that time, those that wait, and the last",
        "ended_at",
        "old.status in ('sent', 'withdrawn') and old.batch < ("
        "select max(newest.batch) from ops.delivery_batches as newest where newest.delivery = old.delivery)",
    ),
    Policy(
        "delivered_rows", "a row per key that a target has: by it a delivery knows what changed, and what to delete"
    ),
    Policy("exports", "a row per exported mart and place: by it later exports and erasures find what lies there"),
    Policy(
        "archives",
        "a row per file that has raw rows, and of what came back until its file is removed: `granary archive-raw`"
        " does, after thirty days",
    ),
    Policy(
        "audit_trail",
        "a year, or longer where `record_days` says so; of the server's roles also the last that was seen",
        "at",
        "old.at < now() - interval '1 year' and not (old.action = 'roles' and old.entry_id = ("
        "select max(last.entry_id) from ops.audit_trail as last where last.action = 'roles'))",
    ),
    Policy("migrations", "all: the next engine goes by them"),
    Policy("locks", "a row per name"),
    Policy("views_down", "nothing between transactions"),
)


def days() -> int:
    """Return for how many days records are kept that no guarantee needs.

    Raises:
        GranaryError: the var `record_days` of dbt_project.yml is not a number of days.
    """
    found = project_vars().get("record_days", DAYS)
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise GranaryError(f"vars: record_days {found!r} is not a number of days", "dbt_project.yml", "write 1 or more")
    return found


def prune(settings: Settings, kept_days: int) -> dict[str, int]:
    """Delete what no policy keeps; return by table how many rows that were.

    A table that somebody has locked, or that this warehouse does not have yet, is left for the next time.
    """
    gone: dict[str, int] = {}
    with connect(settings) as connection:
        for policy in POLICIES:
            if not policy.aged:
                continue
            age = f"{policy.aged} < now() - make_interval(days => {int(kept_days)})"
            try:
                execute(connection, "set local lock_timeout = '1s'")
                gone[policy.table] = count(
                    connection, f"delete from ops.{policy.table} as old where {age} and {policy.condition}"
                )
                connection.commit()
            except (LockNotAvailable, UndefinedTable, InsufficientPrivilege):
                connection.rollback()
    return gone


def is_due(settings: Settings) -> bool:
    """Return whether a day has passed since this last said so: looking costs a second in a ledger of millions."""
    recent = "select 1 from ops.steps where run_id = $1 and finished_at > now() - interval '1 day'"
    with connect(settings) as connection:
        if query(connection, recent, STEP):
            return False
        steps.keep(connection, [Step(STEP, STEP, STEP, None, is_full=False, seconds=0, row_count=None)])
        connection.commit()
    return True
