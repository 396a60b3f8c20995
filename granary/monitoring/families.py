"""The metrics: what each is called and means, and which view of the run ledger it is read from.

Names follow Prometheus: base units in the name, `_seconds`, `_bytes`, `_ratio`. All are read within one transaction as
the role `monitor`, which may read these views and no table; none of them takes a lock that a publish holds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gauge:
    """A metric of one value per row of its family."""

    name: str
    help: str


@dataclass(frozen=True)
class Family:
    """Metrics that one query answers: its columns are the labels, then the values of the gauges; null is no sample."""

    labels: tuple[str, ...]
    gauges: tuple[Gauge, ...]
    sql: str


@dataclass(frozen=True)
class Histogram:
    """A metric that counts the rows of a query, labels and then a value, by their size."""

    name: str
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...]
    sql: str


RUNS = Family(
    ("kind", "name"),
    (
        Gauge("granary_run_last_success_timestamp_seconds", "When a run of this kind and name last succeeded."),
        Gauge("granary_run_last_end_timestamp_seconds", "When one last ended, however it did."),
        Gauge("granary_run_last_succeeded", "Whether the last one that ended succeeded (1) or not (0)."),
        Gauge("granary_run_last_duration_seconds", "How long the last one that ended took."),
        Gauge("granary_run_last_cpu_seconds", "CPU that the last one took of this machine, without the database's."),
        Gauge("granary_run_last_peak_memory_bytes", "The most memory that a process of the last one held."),
        Gauge("granary_runs_running", "Runs at work now."),
    ),
    """
    select
        kind, name, extract(epoch from last_success_at), extract(epoch from last_finished_at),
        case last_status when 'succeeded' then 1 else 0 end, last_seconds, last_cpu_seconds, last_peak_memory_bytes,
        running_count
    from ops.run_states
    """,
)
STAGES = Family(
    ("pipeline_name", "stage"),
    (
        Gauge("pipeline_throughput", "Rows per second of work, of the last 24 hours."),
        Gauge("pipeline_success_ratio", "Share of loads, models, checks or publishes that went well, of 24 hours."),
        Gauge("pipeline_activities", "Loads, models, checks or publishes that ended in the last 24 hours."),
        Gauge("pipeline_failures", "Those of them that failed."),
        Gauge("pipeline_rows", "Rows that they moved (of checks: that failed them)."),
        Gauge("pipeline_bytes", "Bytes that they read."),
        Gauge("pipeline_cpu_seconds", "CPU that loads took of this machine."),
    ),
    """
    select
        source, stage, rows_per_second, success_rate, activity_count, failed_count, row_count, byte_count, cpu_seconds
    from ops.stage_performance_now
    """,
)
DURATIONS = Family(
    ("pipeline_name", "stage", "percentile"),
    (Gauge("pipeline_duration_seconds", "How long one load, model, check or publish took, of the last 24 hours."),),
    """
    select source, stage, percentile, case percentile when '50' then seconds_p50 else seconds_p95 end
    from ops.stage_performance_now
    cross join unnest(array['50', '95']) as percentile
    """,
)
EVENT_LATENCY = Family(
    ("pipeline_name", "percentile"),
    (Gauge("granary_event_latency_seconds", "From an event at the source to the published mart, of 24 hours."),),
    """
    select
        source, unnest(array['50', '95']),
        unnest(percentile_cont(array[0.5, 0.95]) within group (order by seconds_from_event))
    from ops.latency_now
    group by source
    """,
)
FRESHNESS = Family(
    ("source", "table"),
    (
        Gauge("granary_source_new_load_age_seconds", "Since a load last brought something new."),
        Gauge("granary_source_data_age_seconds", "Age of the newest data, by business date or time at the source."),
        Gauge("granary_source_freshness_objective_seconds", "How old both may be, by the table's contract."),
        Gauge("granary_source_late", "Whether one of them is older than that (1)."),
    ),
    """
    select source, table_name, new_load_age_seconds, data_age_seconds, objective_seconds, cast(is_late as integer)
    from ops.source_freshness
    """,
)
QUALITY = Family(
    ("relation", "source", "owner"),
    (
        Gauge("granary_table_quality_score", "Share of rows that were accepted times share of checks that pass."),
        Gauge("granary_table_accepted_rows_ratio", "Share of the rows of 7 days that their contract did not refuse."),
        Gauge("granary_table_passed_checks_ratio", "Share of the table's checks that passed last."),
        Gauge("granary_table_checks", "Checks that the table has."),
        Gauge("granary_table_failed_checks", "Those of them that did not pass."),
    ),
    """
    select
        relation, source, owner, quality_score, row_score, case when check_count > 0 then check_score end, check_count,
        check_count - checks_passed
    from ops.quality_scores
    """,
)
QUARANTINE = Family(
    ("source", "table", "status"),
    (
        Gauge("granary_quarantine_rows", "Rows in the quarantine."),
        Gauge("granary_quarantine_oldest_age_seconds", "Age of the oldest of them."),
    ),
    "select source, table_name, status, row_count, oldest_age_seconds from ops.quarantine_state",
)
SHAPES = Family(
    ("source", "table"),
    (Gauge("granary_schema_changes", "Differences between contract and delivery that were new in 24 hours."),),
    "select source, table_name, change_count from ops.shape_changes",
)
STREAMS = Family(
    ("source", "partition"),
    (
        Gauge("granary_stream_lag_messages", "Messages that wait in the log."),
        Gauge("granary_stream_lag_seconds", "Age of the first that waits, or of the last that landed."),
        Gauge("granary_stream_lag_age_seconds", "Since the stream's process last said so; it does each minute."),
    ),
    """
    select source, part, message_count, seconds, extract(epoch from now() - seen_at)
    from ops.lags where kind = 'stream'
    """,
)
SLOTS = Family(
    ("source", "slot"),
    (
        Gauge("granary_slot_lag_bytes", "Bytes of the source's log that the slot holds back."),
        Gauge("granary_slot_lag_seconds", "Age of the copy: since it was last known to be complete."),
        Gauge("granary_slot_lag_age_seconds", "Since the capture last said so; one that follows does each minute."),
    ),
    """
    select source, part, byte_count, seconds + extract(epoch from now() - seen_at), extract(epoch from now() - seen_at)
    from ops.lags where kind = 'slot'
    """,
)
PUBLISH = Family(
    (),
    (
        Gauge("granary_publish_age_seconds", "Since marts were last published."),
        Gauge("granary_publish_last_duration_seconds", "How long the last publish took."),
        Gauge("granary_publish_last_rows", "Rows that the last publish inserted and deleted."),
        Gauge("granary_publish_waiting_marts", "Marts that are built and wait to be published."),
        Gauge("granary_publish_holds", "Nodes that hold publishing until they succeed."),
        Gauge("granary_published_business_date_timestamp_seconds", "The last business date that is published (UTC)."),
    ),
    """
    select
        age_seconds, seconds, row_count, waiting_count, hold_count,
        extract(epoch from cast(last_date as timestamp) at time zone 'UTC')
    from ops.publish_state
    """,
)
SIZES = Family(
    ("relation",),
    (
        Gauge("granary_table_size_bytes", "What the table took of the disk, with its indexes, when measured last."),
        Gauge("granary_table_rows", "Rows of the table, as the server estimated them then."),
        Gauge("granary_table_growth_bytes_per_day", "How much it grew a day, over up to 30 days."),
    ),
    "select relation, byte_count, row_count, bytes_per_day from ops.storage_growth",
)
DATABASE = Family(
    (),
    (Gauge("granary_database_size_bytes", "What the warehouse's database takes of the disk."),),
    "select pg_database_size(current_database())",
)
BACKUPS = Family(
    ("place",),
    (
        Gauge("granary_backup_age_seconds", "Since the last backup was complete, or since one is wanted."),
        Gauge("granary_backup_interval_seconds", "How often one is to be made."),
        Gauge("granary_backup_size_bytes", "What the last one takes at the destination."),
        Gauge("granary_backup_duration_seconds", "How long it took."),
        Gauge("granary_backup_log_age_seconds", "Up to how long ago every change is stored: what could be lost."),
        Gauge("granary_drill_age_seconds", "Since a restore was last proved."),
        Gauge("granary_drill_passed", "Whether the last drill passed (1) or not (0)."),
    ),
    """
    select
        place, age_seconds, every_seconds, byte_count, seconds, log_age_seconds, drill_age_seconds,
        cast(drill_passed as integer)
    from ops.backup_health
    """,
)
TWIN = Family(
    ("copy",),
    (
        Gauge("granary_twin_publish", "The last publish that this copy of the columnar twin has."),
        Gauge("granary_twin_missing_publishes", "Publishes, undos and redos that it does not have."),
        Gauge("granary_twin_lag_seconds", "Since the first of them was there; 0 while it has all."),
    ),
    "select copy, publish_id, publish_count, seconds from ops.twin_lag",
)
COSTS = Family(
    ("name", "kind"),
    (
        Gauge("granary_step_last_duration_seconds", "How long a model or a load took last, in an increment."),
        Gauge("granary_step_median_duration_seconds", "Its median of 30 days."),
        Gauge("granary_step_seconds_per_million_rows", "What a million of its rows took, in 30 days."),
        Gauge("granary_step_cost_ratio", "Its share of the seconds of all models and loads, in 30 days."),
    ),
    "select name, kind, last_seconds, seconds_p50, seconds_per_million_rows, share from ops.model_costs",
)
FAMILIES = (
    RUNS,
    STAGES,
    DURATIONS,
    EVENT_LATENCY,
    FRESHNESS,
    QUALITY,
    QUARANTINE,
    SHAPES,
    STREAMS,
    SLOTS,
    PUBLISH,
    SIZES,
    DATABASE,
    BACKUPS,
    TWIN,
    COSTS,
)
HISTOGRAMS = (
    Histogram(
        "pipeline_latency",
        "Seconds from the start of a load to the publish that shows its rows, of the last 24 hours.",
        ("pipeline_name",),
        (1, 5, 10, 30, 60, 300),
        "select source, seconds_from_load from ops.latency_now",
    ),
    Histogram(
        "data_quality_score",
        "The quality scores of all tables, as they are now.",
        ("source",),
        (0.8, 0.9, 0.95, 0.99, 1.0),
        "select coalesce(source, 'marts'), quality_score from ops.quality_scores",
    ),
)
"""Their counts are of what is now in the window, not since a start: ask for quantiles without `rate()`."""
OWN = (
    Gauge("granary_up", "Whether the warehouse answers (1)."),
    Gauge("granary_info", "1; the label is the version of the engine."),
    Gauge("granary_scrape_duration_seconds", "How long it took to read all of this."),
    Gauge("granary_scrape_errors", "Queries for metrics that the warehouse did not answer in time."),
)
"""What is known without the warehouse."""


def metrics() -> dict[str, str]:
    """Return every metric's name and meaning, in the order in which they are printed."""
    gauges = [*OWN, *(gauge for family in FAMILIES for gauge in family.gauges)]
    return {one.name: one.help for one in gauges} | {one.name: one.help for one in HISTOGRAMS}
