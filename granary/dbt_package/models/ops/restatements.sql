with

publishes as (

    select
        publish_id,
        finished_at,
        loads_seen,
        publish_id = max(publish_id) over () as is_latest_publish,
        lag(loads_seen, 1, cast('{}' as jsonb)) over (order by publish_id) as previously_seen,
        max(last_date) over (
            order by publish_id rows between unbounded preceding and 1 preceding
        ) as previous_last_date
    from {{ source('ops', 'publishes') }}
    where schema_name = '{{ granary.published_schema() }}'

),

restated as (

    select
        publishes.publish_id,
        publishes.finished_at,
        publishes.is_latest_publish,
        publishes.loads_seen,
        publishes.previously_seen,
        months.mart,
        months.business_month,
        months.previous_row_count,
        months.row_count,
        months.rows_inserted,
        months.rows_deleted,
        months.previous_measures,
        months.measures
    from {{ source('ops', 'published_months') }} as months
    inner join publishes on months.publish_id = publishes.publish_id
    where
        months.previous_row_count is not null
        -- Closed: the month's last day and the days of grace after it had been published before.
        and publishes.previous_last_date
        >= cast(months.business_month + interval '1 month' as date) - 1 + {{ var('month_closes_after_days') }}

),

erased_months as (

    select * from {{ ref('erased_months') }}

),

followed as (

    select
        publish_id,
        min(erasure_ids) as erasure_ids
    from erased_months
    group by publish_id

),

loaded as (

    select
        publishes.publish_id,
        array_agg(loads.load_id order by loads.load_id) as load_ids
    from publishes
    inner join {{ source('ops', 'load_audit') }} as loads
        on
            loads.status in ('loaded', 'withdrawn')
            and loads.load_id > coalesce(cast(publishes.previously_seen ->> loads.source as bigint), 0)
            and loads.load_id <= cast(publishes.loads_seen ->> loads.source as bigint)
    group by publishes.publish_id

)

select
    restated.publish_id,
    restated.finished_at as published_at,
    restated.is_latest_publish,
    restated.mart,
    restated.business_month,
    restated.previous_row_count,
    restated.row_count,
    restated.row_count - restated.previous_row_count as row_difference,
    restated.rows_inserted,
    restated.rows_deleted,
    restated.previous_measures,
    restated.measures,
    (
        select
            coalesce(
                jsonb_object_agg(
                    sums.key,
                    cast(sums.value as numeric)
                    - coalesce(cast(restated.previous_measures ->> sums.key as numeric), 0)
                ) filter (where sums.value is distinct from restated.previous_measures ->> sums.key),
                cast('{}' as jsonb)
            )
        from jsonb_each_text(restated.measures) as sums (key, value)
    ) as differences,
    loaded.load_ids,
    followed.erasure_ids,
    erased_months.erased,
    -- Of a mart without persons, an erasure explains what no load does.
    followed.erasure_ids is not null
    and loaded.load_ids is null
    and not exists (
        select 1
        from jsonb_each_text(erased_months.erased) as gone (key, value)
        where
            cast(gone.value as numeric) <> case gone.key
                when 'row_count' then restated.previous_row_count - restated.row_count
                else
                    coalesce(cast(restated.previous_measures ->> gone.key as numeric), 0)
                    - coalesce(cast(restated.measures ->> gone.key as numeric), 0)
            end
    ) as is_by_erasure
from restated
left join followed on restated.publish_id = followed.publish_id
left join loaded on restated.publish_id = loaded.publish_id
left join erased_months
    on
        restated.publish_id = erased_months.publish_id
        and restated.mart = erased_months.mart
        and restated.business_month = erased_months.business_month
