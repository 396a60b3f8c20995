"""The page for whoever keeps it running: what is wrong, what ran, how fresh, how good, how fast, at what cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from granary.pages.dashboard import operation_drawings as drawings
from granary.pages.dashboard import operation_queries as queries
from granary.pages.dashboard.parts import Chart, Dataset, Figure, Filter, Page, key, ratio, total, value

if TYPE_CHECKING:
    from granary.pages.dashboard.parts import Found

LONGEST = 20
"""How many names a chart of bars has at most."""


def _read(name: str, sql: str) -> Dataset:
    return Dataset(f"operation_{name}", role="transformer", sql=sql)


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number or 'No'} {one if number in (0, 1) else many or f'{one}s'}"


def _incidents(rows: Found) -> str:
    still = [row for row in rows if row["state"] != "over"]
    if not still:
        return f"No incident is open; {_counted(len(rows), 'was', 'were').lower()} over in 30 days"
    first = f"{_counted(len(still), 'incident is', 'incidents are')} open: {still[0]['what']}"
    return first if len(still) == 1 else f"{first}, and {len(still) - 1} more"


def _ended(rows: Found) -> str:
    all_of_them = int(sum(row["run_count"] for row in rows))
    failed = int(sum(row["run_count"] for row in rows if row["status"] == "failed"))
    return f"{_counted(failed, 'run')} of {all_of_them:,} failed in 30 days"


def _late(rows: Found) -> str:
    late = [str(row["source_table"]) for row in rows if row["state"] == "late"]
    if not late:
        return "Every source had something new in the time agreed"
    more = f" and {len(late) - 3} more" if len(late) > 3 else ""  # noqa: PLR2004 - three names are read at a glance
    return f"Late: {', '.join(late[:3])}{more}"


def _scores(rows: Found) -> str:
    less = [row for row in rows if row["quality_score"] < 1]
    if not less:
        return "Every row was accepted and every check passes"
    return f"{_counted(len(less), 'table')} of {len(rows)} below 100%; the lowest is {less[0]['relation']}"


def _audits(rows: Found) -> str:
    tests, failing = (int(sum(row[name] for row in rows)) for name in ("tests", "failing"))
    return f"{_counted(failing, 'test')} failed in the last audits, of {tests:,}"


def _costs(rows: Found) -> str | None:
    first = rows[0]
    return f"{first['name']} costs most: {100 * first['share']:.0f}% of the seconds" if first["share"] else None


def _lags(rows: Found) -> str | None:
    first = rows[0]
    return f"{first['part']} is farthest behind" if first["seconds"] else "Nothing is behind"


def _refused(rows: Found) -> str:
    still = int(sum(row["row_count"] for row in rows if row["status"] == "open"))
    return f"{_counted(still, 'row waits', 'rows wait')} for a decision"


def _backups(rows: Found) -> str | None:
    wrong = [f"the {row['what']} {row['state']}" for row in rows if row["state"] != "is in time"]
    return ", ".join(wrong) or None


PAGE = Page(
    name="operation",
    title="Operation",
    lead="What is wrong, what ran and what it took. Times and days are UTC; ages are those of when this was written.",
    datasets=(
        _read("now", queries.NOW),
        _read("incidents", queries.INCIDENTS),
        _read("run_days", queries.RUN_DAYS),
        _read("runs", queries.RUNS),
        _read("freshness", queries.FRESHNESS),
        _read("quality", queries.QUALITY),
        _read("audits", queries.AUDITS),
        _read("stages", queries.STAGES),
        _read("latency", queries.LATENCY),
        _read("costs", queries.COSTS),
        _read("trends", queries.TRENDS),
        _read("quarantine", queries.QUARANTINE),
        _read("lags", queries.LAGS),
        _read("backups", queries.BACKUPS),
        _read("storage", queries.STORAGE),
        _read("tables", queries.TABLES),
    ),
    figures=(
        Figure("Open incidents", "operation_now", value("open_incidents", "", "count")),
        Figure(
            "Success rate", "operation_now", value("success_rate", "", "percent"), note="loads, models, checks of 24 h"
        ),
        Figure("Tables that are late", "operation_now", value("late_tables", "", "count"), note="of the sources"),
        Figure(
            "Quality score",
            "operation_now",
            value("quality_score", "", "percent"),
            note="accepted rows, good checks",
        ),
        Figure("Latency", "operation_now", value("latency_p95", "", "seconds"), note="to the mart, 95% of 24 h"),
        Figure("Rows in quarantine", "operation_now", value("rows_quarantined", "", "count"), note="not decided yet"),
        Figure("Last publish", "operation_now", value("publish_age", "", "seconds"), note="before this was written"),
        Figure("Storage", "operation_now", value("byte_count", "", "bytes"), note="the whole database"),
    ),
    charts=(
        Chart(
            "incidents",
            "Incidents",
            "One per cause, with everything that it made fail or late: those that are open, the gravest first, then"
            " those that were over in the last 30 days. The command tells all of it, and what to do.",
            "operation_incidents",
            (
                key("what", "What"),
                key("state", "State"),
                value("severity", "How grave", "text"),
                value("since", "Since (UTC)", "text"),
                value("open_for", "For", "seconds"),
                value("owner", "Owner", "text"),
                value("signal_count", "Signals", "count"),
                value("mart_count", "Marts reached", "count"),
                value("oldest_age", "The oldest is", "seconds"),
                key("next_command", "Next"),
            ),
            None,
            wide=True,
            empty="No incident is open, and none was over in the last 30 days.",
            finding=_incidents,
        ),
        Chart(
            "run-days",
            "Runs of 30 days",
            "Runs by the day on which they began, and how they ended. What a run starts is part of it.",
            "operation_run_days",
            (key("day", "Day"), key("status", "Ended"), total("run_count", "Runs", "count")),
            drawings.stacked("run_count", "Runs", "status", drawings.ENDS),
            empty="Nothing has run yet; the first is granary run.",
            finding=_ended,
        ),
        Chart(
            "runs",
            "How long runs took",
            "A point is a run: its beginning and its duration, on a logarithmic scale. The newest 1,000 of 30 days.",
            "operation_runs",
            (
                key("started_at", "Began"),
                key("kind", "Kind"),
                key("name", "Name"),
                key("status", "Ended"),
                value("seconds", "Duration", "seconds"),
                value("started_by", "Started by", "text"),
                value("row_count", "Rows", "count"),
                value("cpu_seconds", "CPU", "seconds"),
                value("peak_memory_bytes", "Memory", "bytes"),
                key("run_id", "Run"),
            ),
            drawings.runs,
            empty="Nothing has run yet; the first is granary run.",
        ),
        Chart(
            "freshness",
            "Freshness of the sources",
            "How much of the time agreed has passed since a load last brought something new. A load that found nothing"
            " new does not count.",
            "operation_freshness",
            (
                key("source_table", "Source table"),
                key("state", "State"),
                value("age", "Nothing new for", "seconds"),
                value("objective", "Agreed", "seconds"),
                value("share", "Share", "percent"),
                value("drawn", "Share drawn", "percent"),
                value("fresh_at", "Last new (UTC)", "text"),
                value("data_at", "Newest data (UTC)", "text"),
                value("data_age", "Age of it", "seconds"),
                value("last_load", "Last load", "text"),
                value("owner", "Owner", "text"),
            ),
            drawings.ages,
            limit=2 * LONGEST,
            empty="Nothing is loaded yet; granary run does it.",
            finding=_late,
        ),
        Chart(
            "quality",
            "Quality of the tables",
            "The share of rows that were accepted in 7 days, times the share of checks that pass; the lowest first.",
            "operation_quality",
            (
                key("relation", "Table"),
                value("owner", "Owner", "text"),
                value("rows_read", "Rows read", "count"),
                value("rows_refused", "Refused", "count"),
                value("check_count", "Checks", "count"),
                value("checks_failed", "Do not pass", "count"),
                value("quality_score", "Score", "percent"),
            ),
            drawings.scores,
            limit=LONGEST,
            empty="No row was read and no check has run yet.",
            finding=_scores,
        ),
        Chart(
            "audited",
            "What the last audit of each mart proved",
            "A mart becomes visible only if all its tests pass in the transaction that builds it.",
            "operation_audits",
            (
                key("mart", "Mart"),
                total("tests", "Tests", "count"),
                total("failing", "Failing", "count"),
                ratio("failing_rate", "Share failing", "percent", "failing", "tests"),
                value("audited_at", "Audited at (UTC)", "text"),
            ),
            None,
            wide=True,
            empty="No mart is audited yet.",
            finding=_audits,
        ),
        Chart(
            "throughput",
            "Throughput",
            "Rows in a second of work, by stage and day, on a logarithmic scale. Checks move no rows: of them the table"
            " has how many ran and passed.",
            "operation_stages",
            (
                key("day", "Day"),
                key("stage", "Stage"),
                total("activity_count", "Done", "count"),
                ratio("success_rate", "Went well", "percent", "succeeded_count", "activity_count"),
                total("row_count", "Rows", "count"),
                total("byte_count", "Read", "bytes"),
                total("seconds", "Work", "seconds"),
                ratio("rows_per_second", "Rows per second", "count", "row_count", "seconds"),
                total("cpu_seconds", "CPU", "seconds"),
            ),
            drawings.throughput,
            empty="Nothing was loaded, built or published in the last 30 days.",
        ),
        Chart(
            "costs",
            "What models and loads cost",
            "Seconds of all increments of 30 days, the costliest first; the last one against the median of them.",
            "operation_costs",
            (
                key("name", "Name"),
                key("kind", "Kind"),
                value("run_count", "Runs", "count"),
                value("seconds", "In all", "seconds"),
                value("share", "Share", "percent"),
                value("seconds_p50", "Median", "seconds"),
                value("seconds_p95", "95th percentile", "seconds"),
                value("last_seconds", "Last", "seconds"),
                value("last_to_median", "Last to median", "times"),
                value("seconds_per_million_rows", "A million rows", "seconds"),
            ),
            drawings.bars("name", "seconds", "Time of 30 days", drawings.DURATION, by="kind"),
            limit=LONGEST,
            empty="No increment has run yet; whole builds do not count.",
            finding=_costs,
        ),
        Chart(
            "latency",
            "Latency from source to mart",
            "From the event at the source to the publish that shows it: the median and the 95th percentile of each day,"
            " on a logarithmic scale. Of what was older than a week, the clock runs from its load.",
            "operation_latency",
            (
                key("source", "Source"),
                key("day", "Day"),
                value("load_count", "Loads", "count"),
                value("event_seconds_p50", "Median", "seconds"),
                value("event_seconds_p95", "95th percentile", "seconds"),
                value("load_seconds_p95", "95th, from the load", "seconds"),
            ),
            drawings.latency,
            wide=True,
            empty="Nothing that was loaded is published yet.",
        ),
        Chart(
            "trends",
            "The costliest, day by day",
            "The median duration of each day, each on a scale of its own.",
            "operation_trends",
            (
                key("name", "Name"),
                key("day", "Day"),
                value("place", "Place", "count"),
                value("run_count", "Runs", "count"),
                value("seconds_p50", "Median", "seconds"),
            ),
            drawings.trends,
            wide=True,
            empty="No increment has run yet; whole builds do not count.",
        ),
        Chart(
            "quarantine",
            "Rows that were refused",
            "Rows in the quarantine, by source table and what became of them.",
            "operation_quarantine",
            (
                key("source_table", "Source table"),
                key("status", "State"),
                value("row_count", "Rows", "count"),
                value("oldest_age", "The oldest is", "seconds"),
            ),
            drawings.bars(
                "source_table", "row_count", "Rows", "format(datum.value, ',~r')", by="status", scale=drawings.REFUSED
            ),
            empty="No row was refused.",
            finding=_refused,
        ),
        Chart(
            "lags",
            "How far streams and captures are behind",
            "By partition or slot, when its process last said so.",
            "operation_lags",
            (
                key("part", "Partition or slot"),
                key("kind", "Kind"),
                value("seconds", "Behind", "seconds"),
                value("message_count", "Messages", "count"),
                value("byte_count", "Held", "bytes"),
                value("said_age", "Said before", "seconds"),
            ),
            drawings.bars("part", "seconds", "Behind", drawings.DURATION, by="kind"),
            limit=2 * LONGEST,
            empty="No stream is read and no database captured.",
            finding=_lags,
        ),
        Chart(
            "backups",
            "How old backup, stored log and drill are",
            "A backup and a drill are late after twice their interval, the log after five minutes.",
            "operation_backups",
            (
                key("what", "What"),
                value("age", "Old", "seconds"),
                value("allowed", "Late after", "seconds"),
                value("state", "State", "text"),
                value("found", "Found", "text"),
                value("byte_count", "Size", "bytes"),
            ),
            drawings.bars("what", "age", "Old", drawings.DURATION),
            empty="No destination of backups is set.",
            finding=_backups,
        ),
        Chart(
            "storage",
            "Storage by day",
            "What the tables of each schema take of the disk with their indexes, on each day that it was measured.",
            "operation_storage",
            (key("day", "Day"), key("schema_name", "Schema"), total("byte_count", "Size", "bytes")),
            drawings.stacked("byte_count", "Size", "schema_name", sizes=True),
            empty="It is measured with the first run of a day.",
        ),
        Chart(
            "tables",
            "The largest tables",
            "Their size when it was measured last, and how much they grew in up to 30 days before.",
            "operation_tables",
            (
                key("relation", "Table"),
                value("byte_count", "Size", "bytes"),
                value("row_count", "Rows, about", "count"),
                value("grown_byte_count", "Grown", "bytes"),
                value("bytes_per_day", "A day", "bytes"),
                value("measured_on", "Measured on", "text"),
            ),
            drawings.bars("relation", "byte_count", "Size", drawings.SIZE),
            limit=LONGEST,
            empty="It is measured with the first run of a day.",
        ),
    ),
    filters=(Filter("source", "Source", "All sources", "operation_freshness"),),
)
