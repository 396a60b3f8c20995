"""What the page of operation reads: views and tables of the server over the run ledger, times and counts only.

None of them asks for the words of an error, for a value of a row, or for who somebody is.
"""

from __future__ import annotations

from granary.alerting.rules import RULES

NOW = """\
-- How it stands now, in one row.
select
    (select count(*) from ops.incidents where closed_at is null) as open_incidents,
    (
        select 1 - sum(failed_count) / nullif(sum(activity_count), 0)
        from ops.stage_performance_now
    ) as success_rate,
    (select count(*) from ops.source_freshness where is_late) as late_tables,
    (
        select
            (1 - coalesce(sum(rows_refused) / nullif(sum(rows_read), 0), 0))
            * coalesce(sum(checks_passed) / nullif(sum(check_count), 0), 1)
        from ops.quality_scores
        having count(*) > 0
    ) as quality_score,
    (
        select percentile_cont(0.95) within group (order by seconds_from_event)
        from ops.latency_now
    ) as latency_p95,
    (
        select cast(coalesce(sum(row_count), 0) as bigint)
        from ops.quarantine_state
        where status = 'open'
    ) as rows_quarantined,
    (select age_seconds from ops.publish_state) as publish_age,
    pg_database_size(current_database()) as byte_count
"""
INCIDENTS = """\
-- Incidents that are open, the gravest and oldest first, and then those that were over in the last 30 days.
select
    cast(incidents.incident_id as text) as incident,
    case
        when incidents.closed_at is not null then 'over'
        when incidents.muted_until > now() then 'open, muted'
        when incidents.acked_at is not null then 'open, taken up'
        else 'open'
    end as state,
    incidents.severity,
    replace(
        coalesce(rules.title, first.kind || ' of {subject}'),
        '{subject}',
        case when first.is_cause then '' else 'source ' end || incidents.cause
    ) as what,
    incidents.owner,
    to_char(incidents.since at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as since,
    cast(extract(epoch from coalesce(incidents.closed_at, now()) - incidents.since) as double precision) as open_for,
    jsonb_array_length(incidents.signals) as signal_count,
    reached.mart_count,
    reached.oldest_age,
    'granary incidents show ' || incidents.incident_id as next_command
from ops.incidents as incidents
left join lateral (
    select
        signals.signal ->> 'kind' as kind,
        signals.signal ->> 'subject' = incidents.cause as is_cause
    from jsonb_array_elements(incidents.signals) with ordinality as signals (signal, place)
    order by is_cause desc, signals.place
    limit 1
) as first on true
left join (
    values
    {titles}
) as rules (kind, title) on first.kind = rules.kind
cross join lateral (
    select
        count(*) as mart_count,
        cast(
            extract(epoch from now() - min(cast(affected.part ->> 'published_at' as timestamptz))) as double precision
        ) as oldest_age
    from jsonb_array_elements(incidents.affected) as affected (part)
    where affected.part ->> 'kind' = 'mart'
) as reached
where incidents.closed_at is null or incidents.closed_at > now() - interval '30 days'
order by incidents.closed_at desc nulls first, incidents.severity, incidents.since
limit 100
"""
INCIDENTS = INCIDENTS.replace(
    "{titles}", ",\n    ".join("('{}', '{}')".format(one.kind, one.title.replace("'", "''")) for one in RULES)
)
RUN_DAYS = """\
-- Day (UTC) and how its runs ended; runs within another are part of it.
select
    to_char(started_at at time zone 'UTC', 'YYYY-MM-DD') as day,
    status,
    count(*) as run_count
from ops.runs
where parent_run_id is null and started_at > now() - interval '30 days'
group by 1, 2
order by 1, 2
"""
RUNS = """\
-- The newest runs of 30 days: when, how they ended, and what they took. Runs within another are part of it.
select
    to_char(started_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as started_at,
    kind,
    name,
    status,
    case
        when started_by like 'user %' then 'a person'
        else started_by
    end as started_by,
    cast(
        extract(epoch from coalesce(finished_at, greatest(seen_at, started_at)) - started_at) as double precision
    ) as seconds,
    row_count,
    cpu_seconds,
    peak_memory_bytes,
    run_id
from ops.runs as runs
where parent_run_id is null and started_at > now() - interval '30 days'
order by runs.started_at desc
limit 1000
"""
FRESHNESS = """\
-- Source table: since when its source has brought nothing new, how new its newest data is, and what is agreed.
select
    fresh.source,
    fresh.source || '.' || fresh.table_name as source_table,
    fresh.owner,
    last.status as last_load,
    to_char(fresh.fresh_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as fresh_at,
    fresh.new_load_age_seconds as age,
    fresh.objective_seconds as objective,
    fresh.new_load_age_seconds / nullif(fresh.objective_seconds, 0) as share,
    least(fresh.new_load_age_seconds / nullif(fresh.objective_seconds, 0), 2) as drawn,
    to_char(fresh.data_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as data_at,
    fresh.data_age_seconds as data_age,
    case when fresh.is_late then 'late' else 'in time' end as state
from ops.source_freshness as fresh
left join lateral (
    select loads.status
    from ops.load_audit as loads
    where loads.source = fresh.source and loads.table_name = fresh.table_name
    order by loads.load_id desc
    limit 1
) as last on true
order by share desc nulls last, source_table
"""
QUALITY = """\
-- Table: the share of its rows of 7 days that were accepted times the share of its checks that pass, the lowest first.
select
    relation,
    coalesce(source, '') as source,
    owner,
    rows_read,
    rows_refused,
    check_count,
    check_count - checks_passed as checks_failed,
    quality_score
from ops.quality_scores
order by quality_score, relation
"""
AUDITS = """\
-- Mart: what its latest audit proved.
with

latest as (

    select
        *,
        max(audited_at) over (partition by model) as last_audited_at,
        first_value(invocation_id) over (partition by model order by audited_at desc) as last_invocation_id
    from ops.model_audits

)

select
    split_part(model, '.', 2) as mart,
    count(*) as tests,
    count(*) filter (where failures > 0) as failing,
    to_char(last_audited_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as audited_at
from latest
where
    invocation_id = last_invocation_id
    and split_part(model, '.', 2) in (
        select marts.table_name from information_schema.tables as marts
        where marts.table_schema = 'marts'
    )
group by model, last_audited_at
order by model
"""
STAGES = """\
-- Day (UTC), stage and source: what was done, what failed, and how many rows in how many seconds of work.
select
    to_char(finished_at at time zone 'UTC', 'YYYY-MM-DD') as day,
    stage,
    coalesce(source, '') as source,
    count(*) as activity_count,
    count(*) filter (where status not in ('failed', 'canceled')) as succeeded_count,
    case when stage <> 'test' then coalesce(sum(row_count), 0) end as row_count,
    sum(byte_count) as byte_count,
    sum(seconds) as seconds,
    sum(cpu_seconds) as cpu_seconds
from ops.activities
where finished_at > now() - interval '30 days' and status <> 'skipped' and stage <> 'run'
group by 1, 2, 3
order by 1, 2, 3
"""
LATENCY = """\
-- Source and day (UTC): how long from an event at the source, and from its load, to the published mart.
select
    source,
    to_char(published_on, 'YYYY-MM-DD') as day,
    load_count,
    event_seconds_p50,
    event_seconds_p95,
    load_seconds_p95
from ops.source_latency
where published_on > current_date - 30
order by source, published_on
"""
COSTS = """\
-- Model or load: what its increments of 30 days took, the costliest first.
select
    name,
    kind,
    run_count,
    seconds,
    share,
    seconds_p50,
    seconds_p95,
    last_seconds,
    last_seconds / nullif(seconds_p50, 0) as last_to_median,
    seconds_per_million_rows
from ops.model_costs
order by seconds desc, name
"""
TRENDS = """\
-- The eight costliest models and loads by day (UTC): the median of their increments.
with

costliest as (

    select
        name,
        rank() over (order by seconds desc, name) as place
    from ops.model_costs
    order by place
    limit 8

)

select
    costliest.name,
    to_char(steps.finished_at at time zone 'UTC', 'YYYY-MM-DD') as day,
    costliest.place,
    count(*) as run_count,
    percentile_cont(0.5) within group (order by steps.seconds) as seconds_p50
from costliest
inner join ops.steps as steps on costliest.name = steps.name
where steps.status = 'succeeded' and not steps.is_full and steps.finished_at > now() - interval '30 days'
group by 1, 2, 3
order by 3, 2
"""
QUARANTINE = """\
-- Source table and what became of its refused rows: how many, and how old the oldest is.
select
    source,
    source || '.' || table_name as source_table,
    status,
    row_count,
    oldest_age_seconds as oldest_age
from ops.quarantine_state
order by sum(row_count) over (partition by source, table_name) desc, source_table, status
"""
LAGS = """\
-- Partition of a stream, or slot of a capture: how far it was behind when its process last said so.
select
    source,
    kind,
    source || ' ' || part as part,
    message_count,
    byte_count,
    seconds,
    cast(extract(epoch from now() - seen_at) as double precision) as said_age
from ops.lags
order by seconds desc nulls last, source, part
"""
BACKUPS = """\
-- Backup, log and drill: how old each is, may be, and how the last one ended.
with

parts as (

    select
        place,
        'backup' as what,
        age_seconds as age,
        2 * every_seconds as allowed,
        true as is_well,
        case when backed_up_at is null then 'there is none' else place end as found,
        byte_count
    from ops.backup_health
    union all
    select place, 'log', log_age_seconds, 300, true, problem, null
    from ops.backup_health
    where log_at is not null
    union all
    select
        place,
        'drill',
        drill_age_seconds,
        2 * drill_seconds,
        coalesce(drill_passed, true),
        case
            when last_drill_at is null then 'there was none'
            when drill_passed then 'all as it should be'
            else '`granary drill` says what is wrong'
        end,
        null
    from ops.backup_health

)

select
    what,
    age,
    allowed,
    case when not is_well then 'failed' when age > allowed then 'is late' else 'is in time' end as state,
    found,
    byte_count
from parts
order by what
"""
STORAGE = """\
-- Day and schema: what its tables took of the disk; the schemas of raw are one, and so are those after the fifth.
with

sizes as (

    select
        measured_on,
        case when relation like 'raw\\_%' then 'raw' else split_part(relation, '.', 1) end as schema_name,
        sum(byte_count) as byte_count
    from ops.table_sizes
    where measured_on > current_date - 30
    group by 1, 2

),

ranked as (

    select
        schema_name,
        rank() over (order by max(byte_count) desc, schema_name) as place
    from sizes
    group by schema_name

)

select
    to_char(sizes.measured_on, 'YYYY-MM-DD') as day,
    case when ranked.place <= 5 then sizes.schema_name else 'others' end as schema_name,
    sum(sizes.byte_count) as byte_count
from sizes
inner join ranked on sizes.schema_name = ranked.schema_name
group by 1, 2
order by 1, 2
"""
TABLES = """\
-- Table: what it took of the disk when it was measured last, and how it grew in the 30 days before.
select
    relation,
    to_char(measured_on, 'YYYY-MM-DD') as measured_on,
    byte_count,
    row_count,
    grown_byte_count,
    bytes_per_day
from ops.storage_growth
order by byte_count desc, relation
"""
