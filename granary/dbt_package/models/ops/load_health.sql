with

loads as (

    select * from {{ source('ops', 'load_audit') }}

),

latest as (

    select
        source,
        table_name,
        load_id,
        status,
        finished_at,
        row_number() over (partition by source, table_name order by load_id desc) as recency
    from loads

),

totals as (

    select
        source,
        table_name,
        count(*) filter (where status = 'failed') as failed_loads,
        max(finished_at) filter (where status <> 'failed') as last_good_at,
        coalesce(sum(rows_loaded) filter (where status = 'loaded' and superseded_by is null), 0) as active_rows,
        coalesce(sum(rows_read) filter (where status = 'loaded'), 0) as rows_read,
        coalesce(sum(rows_quarantined) filter (where status = 'loaded'), 0) as rows_quarantined
    from loads
    group by source, table_name

)

select
    totals.source,
    totals.table_name,
    latest.load_id as last_load_id,
    latest.status as last_status,
    latest.finished_at as last_finished_at,
    totals.last_good_at,
    totals.failed_loads,
    cast(totals.active_rows as bigint) as active_rows,
    cast(totals.rows_quarantined as bigint) as rows_quarantined,
    cast(totals.rows_quarantined / nullif(totals.rows_read, 0) as numeric(9, 6)) as quarantined_share
from totals
inner join latest
    on totals.source = latest.source and totals.table_name = latest.table_name and latest.recency = 1
