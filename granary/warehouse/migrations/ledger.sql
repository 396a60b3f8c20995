-- Views over the run ledger: what was done, how well, how fast, how fresh, at what cost. Applied again when they have
-- changed. They are views of the server and no models of dbt: they answer where dbt never ran, and during a build.

-- One row per run, step, publish, and load that is no step: batches of streams and captures, webhooks, replayed rows.
create or replace view ops.activities as
select
    runs.kind,
    'run' as stage,
    case when runs.kind in ('stream', 'capture') then runs.name end as source,
    runs.name,
    runs.run_id,
    runs.started_at,
    runs.finished_at,
    runs.status,
    runs.cause,
    runs.started_by,
    extract(epoch from coalesce(runs.finished_at, runs.seen_at) - runs.started_at)::double precision as seconds,
    runs.row_count,
    runs.byte_count,
    runs.cpu_seconds,
    runs.peak_memory_bytes
from ops.runs as runs
union all
select
    steps.kind,
    case when steps.kind in ('load', 'test', 'publish') then steps.kind else 'build' end,
    case when steps.kind = 'load' then split_part(steps.name, '.', 1) end,
    steps.name, steps.run_id,
    coalesce(steps.started_at, steps.finished_at - make_interval(secs => steps.seconds)),
    steps.finished_at, steps.status, steps.cause,
    runs.started_by, steps.seconds, steps.row_count, steps.byte_count, steps.cpu_seconds, steps.peak_memory_bytes
from ops.steps as steps
left join ops.runs as runs on steps.run_id = runs.run_id
where steps.kind in ('load', 'model', 'seed', 'snapshot', 'test') or (steps.kind = 'publish' and steps.status = 'failed')
union all
select
    'publish', 'publish', null, publishes.schema_name, publishes.invocation_id, publishes.started_at,
    publishes.finished_at, 'succeeded', null, runs.started_by,
    extract(epoch from publishes.finished_at - publishes.started_at)::double precision,
    publishes.rows_inserted + publishes.rows_deleted, null, null, null
from ops.publishes as publishes
left join ops.runs as runs on publishes.invocation_id = runs.run_id
union all
select
    coalesce(runs.kind, 'load'),
    coalesce(runs.kind, 'load'),
    loads.source, loads.source || '.' || loads.table_name, loads.run_id, loads.started_at, loads.finished_at,
    case loads.status when 'failed' then 'failed' when 'unreadable' then 'warned' else 'succeeded' end,
    loads.error, runs.started_by, loads.seconds, loads.rows_loaded, loads.bytes, null, null
from ops.load_audit as loads
left join ops.runs as runs on loads.run_id = runs.run_id
where
    not exists (
        select from ops.steps as steps
        where steps.run_id = loads.run_id and steps.name = loads.source || '.' || loads.table_name
    );
comment on view ops.activities is
'One row per load, node of dbt, test, publish, run of Dagster or dbt, and batch of a stream or a capture: when, how it ended, what it took, who started it.';

-- By day, stage and source: how often it went well, how long it took, how much it moved.
create or replace view ops.stage_performance as
select
    cast(finished_at as date) as finished_on,
    stage,
    coalesce(source, '') as source,
    count(*) as activity_count,
    count(*) filter (where status in ('failed', 'canceled')) as failed_count,
    avg(case when status in ('failed', 'canceled') then 0.0 else 1.0 end) as success_rate,
    percentile_cont(0.5) within group (order by seconds) as seconds_p50,
    percentile_cont(0.95) within group (order by seconds) as seconds_p95,
    sum(row_count) as row_count,
    sum(byte_count) as byte_count,
    sum(row_count) / nullif(sum(seconds), 0) as rows_per_second,
    sum(cpu_seconds) as cpu_seconds,
    max(peak_memory_bytes) as peak_memory_bytes
from ops.activities
where finished_at > now() - interval '90 days' and status <> 'skipped' and stage <> 'run'
group by 1, 2, 3;
comment on view ops.stage_performance is
'Per day, stage and source: success rate, duration and throughput. A check that fails is a failure of the stage test.';

-- The same of the last 24 hours, for the metrics: with an index, whatever the ledger holds.
create or replace view ops.stage_performance_now as
select
    stage,
    coalesce(source, case stage when 'load' then 'other' else 'dbt' end) as source,
    count(*) as activity_count,
    count(*) filter (where status in ('failed', 'canceled')) as failed_count,
    avg(case when status in ('failed', 'canceled') then 0.0 else 1.0 end) as success_rate,
    percentile_cont(0.5) within group (order by seconds) as seconds_p50,
    percentile_cont(0.95) within group (order by seconds) as seconds_p95,
    coalesce(sum(row_count), 0) as row_count,
    coalesce(sum(byte_count), 0) as byte_count,
    coalesce(sum(row_count) / nullif(sum(seconds), 0), 0) as rows_per_second,
    sum(cpu_seconds) as cpu_seconds
from ops.activities
where finished_at > now() - interval '1 day' and status <> 'skipped' and stage <> 'run'
group by 1, 2;
comment on view ops.stage_performance_now is
'Per stage and source, of the last 24 hours: success rate, duration and throughput.';

-- A load was published by the first publish that has seen it. What is older than a week when it is loaded is history
-- and no news: its latency is counted from when the load began.
create or replace view ops.load_latency as
with published as (
    select publishes.publish_id, publishes.finished_at, seen.key as source, cast(seen.value as bigint) as load_id
    from ops.publishes as publishes
    cross join lateral jsonb_each_text(publishes.loads_seen) as seen
    where publishes.schema_name = 'marts' and publishes.shows is null
),

reached as (
    select
        publish_id, finished_at, source, load_id,
        coalesce(lag(load_id) over (partition by source order by publish_id), 0) as load_id_before
    from published
)

select
    loads.source,
    loads.table_name,
    loads.load_id,
    loads.started_at as load_started_at,
    loads.finished_at as loaded_at,
    reached.publish_id,
    reached.finished_at as published_at,
    case
        when loads.data_at between loads.started_at - interval '7 days' and loads.started_at then loads.data_at
        else loads.started_at
    end as event_at,
    extract(epoch from reached.finished_at - case
        when loads.data_at between loads.started_at - interval '7 days' and loads.started_at then loads.data_at
        else loads.started_at
    end)::double precision as seconds_from_event,
    extract(epoch from reached.finished_at - loads.started_at)::double precision as seconds_from_load
from reached
inner join ops.load_audit as loads
    on
        reached.source = loads.source
        and loads.load_id > reached.load_id_before
        and loads.load_id <= reached.load_id
where loads.status = 'loaded' and loads.rows_loaded > 0;
comment on view ops.load_latency is
'Per load that was published: how long from the source''s event, and from when it was taken in, to the mart.';

create or replace view ops.source_latency as
select
    source,
    cast(published_at as date) as published_on,
    count(*) as load_count,
    percentile_cont(0.5) within group (order by seconds_from_event) as event_seconds_p50,
    percentile_cont(0.95) within group (order by seconds_from_event) as event_seconds_p95,
    percentile_cont(0.5) within group (order by seconds_from_load) as load_seconds_p50,
    percentile_cont(0.95) within group (order by seconds_from_load) as load_seconds_p95
from ops.load_latency
group by 1, 2;
comment on view ops.source_latency is 'Per source and day: p50 and p95 of the seconds from event, and from load, to mart.';

-- Of rows, those of the last 7 days; of checks, how each ended last. A check that warns does not pass.
create or replace view ops.quality_scores as
with row_shares as (
    select
        'raw_' || source || '.' || table_name as relation,
        source,
        sum(rows_read) as rows_read,
        sum(rows_quarantined) as rows_refused
    from ops.load_audit
    where status = 'loaded' and finished_at > now() - interval '7 days'
    group by 1, 2
),

last_checks as (
    select distinct on (name) name, relation, status
    from ops.steps
    where kind = 'test' and status <> 'skipped' and relation is not null
    order by name, finished_at desc
),

checks as (
    select relation, count(*) as checks, count(*) filter (where status = 'succeeded') as checks_passed
    from last_checks
    group by relation
)

select
    relation,
    coalesce(row_shares.source, objectives.source) as source,
    coalesce(objectives.owner, 'nobody') as owner,
    coalesce(row_shares.rows_read, 0) as rows_read,
    coalesce(row_shares.rows_refused, 0) as rows_refused,
    coalesce(checks.checks, 0) as check_count,
    coalesce(checks.checks_passed, 0) as checks_passed,
    1.0 - coalesce(row_shares.rows_refused / nullif(row_shares.rows_read, 0), 0) as row_score,
    coalesce(1.0 * checks.checks_passed / nullif(checks.checks, 0), 1) as check_score,
    (1.0 - coalesce(row_shares.rows_refused / nullif(row_shares.rows_read, 0), 0))
    * coalesce(1.0 * checks.checks_passed / nullif(checks.checks, 0), 1) as quality_score
from row_shares
full outer join checks using (relation)
left join ops.objectives as objectives using (relation);
comment on view ops.quality_scores is
'Per table: the share of rows that were not refused times the share of checks that pass; with its source and owner.';

-- Freshness has two ages: of the last load that brought something new, and of the newest data. The source is late when
-- one of them is over what its contract allows. Of a history that has ended (GRANARY_LAST_DATE) only the loads count.
create or replace view ops.source_freshness as
select
    fresh.source,
    fresh.table_name,
    objectives.owner,
    fresh.fresh_at,
    fresh.data_at,
    extract(epoch from now() - fresh.fresh_at)::double precision as new_load_age_seconds,
    extract(epoch from now() - fresh.data_at)::double precision as data_age_seconds,
    objectives.fresh_seconds as objective_seconds,
    coalesce(extract(epoch from now() - fresh.fresh_at) > objectives.fresh_seconds, false) as is_late
from ops.freshness as fresh
left join ops.objectives as objectives on 'raw_' || fresh.source || '.' || fresh.table_name = objectives.relation;
comment on view ops.source_freshness is 'Per table of a source: the age of its last new load and of its newest data, and what is allowed.';

-- Of the last 30 days. What a second costs is for whoever pays for the machine to say.
create or replace view ops.model_costs as
with recent as (
    select
        name, relation, kind, seconds, row_count, finished_at,
        row_number() over (partition by name order by finished_at desc) as age
    from ops.steps
    where kind in ('model', 'seed', 'snapshot', 'load') and status = 'succeeded' and not is_full
        and finished_at > now() - interval '30 days'
)

select
    name,
    max(relation) as relation,
    max(kind) as kind,
    count(*) as run_count,
    sum(seconds) as seconds,
    sum(seconds) / sum(sum(seconds)) over () as share,
    percentile_cont(0.5) within group (order by seconds) as seconds_p50,
    percentile_cont(0.95) within group (order by seconds) as seconds_p95,
    max(seconds) filter (where age = 1) as last_seconds,
    sum(row_count) as row_count,
    1e6 * sum(seconds) filter (where row_count > 0) / nullif(sum(row_count) filter (where row_count > 0), 0)
        as seconds_per_million_rows
from recent
group by name;
comment on view ops.model_costs is
'Per model and load, increments of 30 days: seconds in all and per million rows, and the last against the median.';

create or replace view ops.storage_growth as
with days as (
    select
        relation, measured_on, byte_count, row_count,
        row_number() over (partition by relation order by measured_on desc) as age,
        min(measured_on) over (partition by relation) as first_on,
        first_value(byte_count) over (partition by relation order by measured_on) as first_byte_count
    from ops.table_sizes
    where measured_on > current_date - 31
)

select
    relation,
    measured_on,
    byte_count,
    row_count,
    byte_count - first_byte_count as grown_byte_count,
    (byte_count - first_byte_count) / nullif(measured_on - first_on, 0)::double precision as bytes_per_day
from days
where age = 1;
comment on view ops.storage_growth is 'Per table: its size when it was measured last, and how much it grew a day in the 30 days before.';

-- What the metrics are made of beside the views above: they hold no row of anybody, and no words of an error.
create or replace view ops.run_states as
select
    kind,
    name,
    max(finished_at) filter (where status = 'succeeded') as last_success_at,
    max(finished_at) filter (where status <> 'running') as last_finished_at,
    (array_agg(status order by started_at desc) filter (where status <> 'running'))[1] as last_status,
    (
        array_agg(extract(epoch from finished_at - started_at)::double precision order by started_at desc)
        filter (where status <> 'running')
    )[1] as last_seconds,
    (array_agg(cpu_seconds order by started_at desc) filter (where status <> 'running'))[1] as last_cpu_seconds,
    (array_agg(peak_memory_bytes order by started_at desc) filter (where status <> 'running'))[1]
        as last_peak_memory_bytes,
    count(*) filter (where status = 'running') as running_count
from ops.runs
where started_at > now() - interval '30 days' or status = 'running'
group by kind, name;
comment on view ops.run_states is 'Per kind and name of a run: when it last succeeded and ended, how, and what it took.';

create or replace view ops.publish_state as
select
    extract(epoch from now() - last.finished_at)::double precision as age_seconds,
    extract(epoch from last.finished_at - last.started_at)::double precision as seconds,
    last.rows_inserted + last.rows_deleted as row_count,
    last.last_date,
    (select count(distinct mart) from ops.unpublished where schema_name = 'marts') as waiting_count,
    (select count(*) from ops.publish_holds where schema_name = 'marts') as hold_count
from (select 1) as one
left join lateral (
    select *
    from ops.publishes
    where schema_name = 'marts'
    order by publish_id desc
    limit 1
) as last on true;
comment on view ops.publish_state is 'One row: how old the last publish is, what it took, and what waits for the next.';

create or replace view ops.quarantine_state as
select
    source,
    table_name,
    status,
    count(*) as row_count,
    extract(epoch from now() - min(first_seen_at))::double precision as oldest_age_seconds
from ops.quarantine
group by 1, 2, 3
union all
select
    'deliveries', delivery, case when is_dropped then 'dropped' else 'open' end, count(*),
    extract(epoch from now() - min(first_refused_at))::double precision
from ops.delivered_rows where reason is not null group by 2, 3;
comment on view ops.quarantine_state is 'Per table or delivery and status: how many rows are in the quarantine, and since when.';

create or replace view ops.shape_changes as
select source, table_name, count(*) as change_count
from ops.schema_changes
where seen_at > now() - interval '1 day' and change <> 'renamed'
group by 1, 2;
comment on view ops.shape_changes is
'Per table: differences between contract and delivery that were new in the last 24 hours.';

create or replace view ops.latency_now as
select source, seconds_from_event, seconds_from_load
from ops.load_latency
where published_at > now() - interval '1 day' and loaded_at > now() - interval '2 days';
comment on view ops.latency_now is
'Per load that was published in the last 24 hours: seconds from event, and from load, to mart.';

create or replace view ops.backup_health as
select
    state.place,
    extract(epoch from now() - coalesce(last.finished_at, state.since))::double precision as age_seconds,
    state.every_seconds,
    last.finished_at as backed_up_at,
    last.byte_count,
    extract(epoch from last.finished_at - last.started_at)::double precision as seconds,
    extract(epoch from now() - state.log_at)::double precision as log_age_seconds,
    state.log_at,
    extract(epoch from now() - coalesce(proved.finished_at, state.since))::double precision as drill_age_seconds,
    state.drill_seconds,
    proved.finished_at as drilled_at,
    drill.succeeded as drill_passed,
    drill.finished_at as last_drill_at,
    drill.detail ->> 'problem' as drill_problem,
    state.since,
    state.problem
from ops.backup_state as state
left join lateral (
    select *
    from ops.backups
    where place = state.place and kind <> 'drill' and succeeded
    order by finished_at desc
    limit 1
) as last on true
left join lateral (
    select *
    from ops.backups
    where place = state.place and kind = 'drill' and succeeded
    order by finished_at desc
    limit 1
) as proved on true
left join lateral (
    select *
    from ops.backups
    where place = state.place and kind = 'drill'
    order by finished_at desc
    limit 1
) as drill on true;
comment on view ops.backup_health is
'Per destination of backups: how old the last one, the stored log and the last drill that passed are, and may be.';

-- How far the columnar twin is behind what is published, if there is one.
create or replace view ops.twin_lag as
select
    twin.copy,
    twin.publish_id,
    count(missing.publish_id) as publish_count,
    min(missing.finished_at) as since,
    coalesce(extract(epoch from now() - min(missing.finished_at)), 0)::double precision as seconds
from ops.twin_state as twin
left join ops.publishes as missing
    on missing.schema_name = 'marts' and missing.publish_id > twin.publish_id
group by twin.copy, twin.publish_id;
comment on view ops.twin_lag is
'Per copy of the columnar twin: publishes that it does not have, and since when the first of them was there.';
