"""The queries of the rules: subject, since, value and detail of what holds; $1 is the threshold, $2 the time."""

from __future__ import annotations

LOAD_FAILED = """
    with tables as (
        select source, table_name, coalesce(max(load_id) filter (where status <> 'failed'), 0) as last_good
        from ops.load_audit
        group by source, table_name
        having max(load_id) filter (where status = 'failed') is not null
    )

    select
        tables.source || '.' || tables.table_name, min(failed.finished_at), count(*),
        (array_agg(failed.error order by failed.load_id desc))[1]
    from tables
    inner join ops.load_audit as failed
        on tables.source = failed.source and tables.table_name = failed.table_name
        and failed.status = 'failed' and failed.load_id > tables.last_good
    group by tables.source, tables.table_name
"""

FILES_NOT_LOADED = """
    select
        source || case table_name when '' then '' else '.' || table_name end, min(first_seen_at), count(*),
        string_agg(distinct outcome, ', ')
    from ops.files_not_loaded as waiting
    where
        (
            outcome <> 'waiting'
            or first_seen_at < cast($2 as timestamptz) - make_interval(secs => 3600 * cast($1 as double precision))
        )
        and last_seen_at >= (
            select max(looks.started_at) from ops.load_audit as looks
            where looks.source = waiting.source and waiting.table_name in ('', looks.table_name)
        )
    group by source, table_name
"""
"""What the last load of the table has seen, too. A file may wait for some hours until it is whole."""

SCHEMA_CHANGE = """
    select
        source || '.' || table_name, min(seen_at), count(distinct column_name),
        string_agg(distinct column_name || ' is ' || change, ', ')
    from ops.schema_changes
    where
        seen_at > cast($2 as timestamptz) - make_interval(secs => 3600 * cast($1 as double precision))
        and change not in ('guessed', 'renamed')
    group by source, table_name
"""
"""A guessed type and a name that is a declared alias are as agreed."""

QUARANTINE_GROWING = """
    select
        source || '.' || table_name, min(first_seen_at), count(*),
        string_agg(distinct case column_name when '' then 'whole rows or files' else 'column ' || column_name end, ', ')
    from ops.quarantine
    where status = 'open' and first_seen_at > cast($2 as timestamptz) - interval '24 hours'
    group by source, table_name
    having count(*) > cast($1 as double precision)
    union all
    select 'deliveries.' || delivery, min(first_refused_at), count(*), 'its target refuses them'
    from ops.delivered_rows
    where
        reason is not null and not is_dropped
        and first_refused_at > cast($2 as timestamptz) - interval '24 hours'
    group by delivery
    having count(*) > cast($1 as double precision)
"""
"""Reasons may quote values; the names of columns say enough here."""

MODEL_FAILED = """
    with last as (
        select finished_at, failures from ops.builds where schema_name = 'marts' order by finished_at desc limit 1
    ),

    known as (
        select signal ->> 'subject' as subject
        from ops.incidents
        cross join lateral jsonb_array_elements(signals) as signal
        where closed_at is null and signal ->> 'kind' = 'model_failed'
    ),

    failed as (
        select
            failure ->> 'node' as node, last.finished_at as since,
            cast(failure ->> 'rows' as double precision) as row_count,
            case failure ->> 'status' when 'skipped' then 'was skipped' else 'failed' end as what
        from last
        cross join lateral jsonb_array_elements(last.failures) as failure
        union all
        select split_part(node, '.', 3), since, null, reason
        from ops.publish_holds
        where
            schema_name = 'marts'
            and (
                reason in ('failed', 'was skipped')
                or (reason = 'has not finished' and split_part(node, '.', 3) in (select subject from known))
            )
    )

    select node, min(since), max(row_count), min(what)
    from failed
    where
        node not in (
            select split_part(node, '.', 3) from ops.publish_holds
            where schema_name = 'marts' and reason = 'has never had data'
        )
    group by node
"""
"""By the last run of dbt, and by what holds publishing since an earlier one. What is being built again counts as it did
before: nobody knows yet."""

PUBLISH_HELD = """
    select split_part(node, '.', 3), since, null, reason
    from ops.publish_holds
    where schema_name = 'marts' and reason like 'would shrink from %'
"""

PUBLISH_OLD = """
    select
        'marts', min(loads.finished_at) + make_interval(secs => 3600 * cast($1 as double precision)),
        extract(epoch from cast($2 as timestamptz) - min(loads.finished_at)) / 3600, ''
    from ops.load_audit as loads
    where
        loads.status = 'loaded' and loads.rows_loaded > 0
        and loads.load_id > coalesce((select max((loads ->> loads.source)::bigint) from ops.whole_builds), 0)
        and loads.finished_at > (select max(started_at) from ops.publishes where schema_name = 'marts')
    having
        min(loads.finished_at)
        < cast($2 as timestamptz) - make_interval(secs => 3600 * cast($1 as double precision))
"""
"""A build that found no difference publishes nothing, and has seen the loads all the same."""

RUN_UNFINISHED = """
    select
        'the run of dbt', min(since), extract(epoch from cast($2 as timestamptz) - min(since)) / 3600,
        count(*) || ' nodes have not finished'
    from ops.publish_holds
    where schema_name = 'marts' and reason = 'has not finished'
    having min(since) < cast($2 as timestamptz) - make_interval(secs => 3600 * cast($1 as double precision))
"""

SLOT_HELD = """
    select
        'replication slot ' || slot_name, null, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn),
        case when active then 'its reader is behind' else 'nobody reads it' end
    from pg_replication_slots
    where
        restart_lsn is not null
        and pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) >= cast($1 as double precision)
"""

STREAM_LAG = """
    select
        source, max(seen_at) - make_interval(secs => max(seconds)), max(seconds),
        sum(message_count) || ' messages wait'
    from ops.lags
    where kind = 'stream' and seconds > cast($1 as double precision)
    group by source
"""
"""As its process said last; whether that is alive is asked by itself."""

PROCESS_ENDED = """
    with last as (
        select distinct on (kind, name)
            name, status, cause, seen_at, cast($2 as timestamptz) - seen_at as silence
        from ops.runs
        where kind in ('stream', 'capture')
        order by kind, name, started_at desc
    )

    select
        name, seen_at, extract(epoch from silence) / 60,
        case status when 'failed' then cause else 'no word of its end' end
    from last
    where
        status = 'failed'
        or (status = 'running' and silence > make_interval(secs => 60 * cast($1 as double precision)))
"""

RUN_FAILED = """
    with jobs as (
        select
            run_id, name, status, finished_at,
            count(*) filter (where status <> 'failed') over (order by started_at desc) as later
        from ops.runs
        where kind = 'job' and status <> 'running'
    )

    select 'runs', min(finished_at), count(*), (array_agg(
        'job ' || name || ', `granary logs ' || left(run_id, 8) || '`' order by finished_at desc
    ))[1]
    from jobs
    where later = 0
    having count(*) > 0
"""
"""Causes quote what failed in a step, which may be a row: `granary logs` has them."""

SUCCESS_RATE = """
    with recent as (
        select
            stage, name, status, finished_at,
            avg(case when status in ('failed', 'canceled') then 0.0 else 1.0 end) over stages as share,
            count(*) over stages as activity_count
        from ops.activities
        where
            finished_at > cast($2 as timestamptz) - interval '24 hours' and status <> 'skipped'
            and stage in ('load', 'build', 'test', 'publish')
        window stages as (partition by stage)
    )

    select
        case stage when 'publish' then 'marts' else name end, min(finished_at), min(share),
        'failed ' || count(*) || ' times (' || stage || ')'
    from recent
    where activity_count >= 20 and share < cast($1 as double precision) and status = 'failed'
    group by stage, name
"""
"""A signal for each that failed, so that lineage says which is the cause. Under 20 steps a share says nothing."""

QUALITY_SCORE = """
    select
        case when relation like 'raw\\_%' then substr(relation, 5) else split_part(relation, '.', 2) end, null,
        quality_score,
        rows_refused || ' of ' || rows_read || ' rows refused in 7 days, ' || check_count - checks_passed || ' of '
        || check_count || ' checks do not pass'
    from ops.quality_scores
    where quality_score < cast($1 as double precision)
"""

BACKUP_OLD = """
    select
        'the last backup at ' || place, coalesce(backed_up_at, since) + make_interval(secs => every_seconds),
        extract(epoch from cast($2 as timestamptz) - coalesce(backed_up_at, since)) / every_seconds, problem
    from ops.backup_health
    where
        extract(epoch from cast($2 as timestamptz) - coalesce(backed_up_at, since))
        > cast($1 as double precision) * every_seconds
"""

BACKUP_LOG_OLD = """
    select
        'the log at ' || place, log_at, extract(epoch from cast($2 as timestamptz) - log_at), problem
    from ops.backup_health
    where extract(epoch from cast($2 as timestamptz) - log_at) > cast($1 as double precision)
"""
"""Only where a service stores it: that alone sets the time."""

DRILL_FAILED = """
    select 'the drill at ' || place, last_drill_at, null, coalesce(drill_problem, '')
    from ops.backup_health
    where not drill_passed
"""

DRILL_OLD = """
    select
        'the last drill at ' || place, coalesce(drilled_at, since) + make_interval(secs => drill_seconds),
        extract(epoch from cast($2 as timestamptz) - coalesce(drilled_at, since)) / drill_seconds, ''
    from ops.backup_health
    where
        extract(epoch from cast($2 as timestamptz) - coalesce(drilled_at, since))
        > cast($1 as double precision) * drill_seconds
"""

TWIN_BEHIND = """
    select
        'the columnar twin', min(since), extract(epoch from cast($2 as timestamptz) - min(since)),
        max(publish_count) || ' publishes are not in it'
    from ops.twin_lag
    having min(since) < cast($2 as timestamptz) - make_interval(secs => cast($1 as double precision))
"""

DELIVERY_FAILED = """
    select
        known.delivery, known.failed_at,
        (
            select count(*) from ops.delivered_rows as waiting
            where waiting.delivery = known.delivery and waiting.batch is not null
        ),
        known.error
    from ops.deliveries as known
    where known.failed_at is not null
"""

DELIVERY_BEHIND = """
    select
        known.delivery, min(later.finished_at),
        extract(epoch from cast($2 as timestamptz) - min(later.finished_at)) / 3600, known.target
    from ops.deliveries as known
    inner join ops.publishes as later on later.schema_name = 'marts' and known.publish_id < later.publish_id
    where known.failed_at is null
    group by known.delivery
    having min(later.finished_at)
        < cast($2 as timestamptz) - make_interval(secs => 3600 * cast($1 as double precision))
"""

LATENCY = """
    select
        'marts', min(loaded_at), percentile_cont(0.95) within group (order by seconds_from_load),
        count(*) || ' loads in 24 hours'
    from ops.load_latency
    where published_at > cast($2 as timestamptz) - interval '24 hours'
    having percentile_cont(0.95) within group (order by seconds_from_load) > cast($1 as double precision)
"""
"""From when a load began, not from the event: what a business delivers once a day is not late by that."""

ANOMALY = """
    select
        source || '.' || table_name, max(first_seen_at), count(*),
        (array_agg(message order by first_seen_at desc, anomaly_id desc))[1]
    from ops.anomalies
    where closed_at is null and not muted
    group by source, table_name
"""
