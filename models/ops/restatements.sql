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
    where schema_name = '{{ published_schema() }}'

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

-- The publish that followed each erasure: the first that has seen one of its numbers.
followed as (

    select
        gone.erasure_id,
        min(publishes.publish_id) as publish_id
    from publishes
    inner join {{ source('ops', 'erased_rows') }} as gone
        on
            gone.load_id > coalesce(cast(publishes.previously_seen ->> gone.source as bigint), 0)
            and gone.load_id <= cast(publishes.loads_seen ->> gone.source as bigint)
    group by gone.erasure_id

),

erasures as (

    select
        publish_id,
        array_agg(erasure_id order by erasure_id) as erasure_ids
    from followed
    group by publish_id

),

-- What they took from marts that have households.
erased_sums as (

    select
        erasures.publish_id,
        totals.relation,
        totals.business_month,
        sums.key as measure,
        sum(cast(sums.value as numeric)) as erased
    from erasures
    inner join {{ source('ops', 'erased_totals') }} as totals on totals.erasure_id = any(erasures.erasure_ids)
    cross join
        lateral jsonb_each_text(
            totals.measures || jsonb_build_object('row_count', totals.row_count)
        ) as sums (key, value)
    where sums.value is not null
    group by erasures.publish_id, totals.relation, totals.business_month, sums.key

),

erased as (

    select
        erased_sums.publish_id,
        restated.mart,
        restated.business_month,
        jsonb_object_agg(erased_sums.measure, erased_sums.erased) as erased,
        bool_and(
            coalesce(
                cast(
                    (restated.measures || jsonb_build_object('row_count', restated.row_count)) ->> erased_sums.measure
                    as numeric
                ), 0
            )
            - coalesce(
                cast(
                    (
                        restated.previous_measures
                        || jsonb_build_object('row_count', restated.previous_row_count)
                    ) ->> erased_sums.measure
                    as numeric
                ), 0
            ) = -erased_sums.erased
        ) as is_all_of_it
    from restated
    inner join erased_sums
        on
            restated.publish_id = erased_sums.publish_id
            and restated.business_month = erased_sums.business_month
            and erased_sums.relation = '{{ published_schema() }}.' || restated.mart
    group by erased_sums.publish_id, restated.mart, restated.business_month

),

loaded as (

    select
        restated.publish_id,
        restated.mart,
        restated.business_month,
        array_agg(loads.load_id order by loads.load_id) as load_ids
    from restated
    inner join {{ source('ops', 'load_audit') }} as loads
        on
            loads.status = 'loaded'
            and loads.load_id > coalesce(cast(restated.previously_seen ->> loads.source as bigint), 0)
            and loads.load_id <= cast(restated.loads_seen ->> loads.source as bigint)
    group by restated.publish_id, restated.mart, restated.business_month

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
    erasures.erasure_ids,
    erased.erased,
    -- Of a mart without households, an erasure explains what no load does.
    erasures.erasure_ids is not null
    and loaded.load_ids is null
    and coalesce(erased.is_all_of_it, true) as is_by_erasure
from restated
left join erasures on restated.publish_id = erasures.publish_id
left join loaded
    on
        restated.publish_id = loaded.publish_id
        and restated.mart = loaded.mart
        and restated.business_month = loaded.business_month
left join erased
    on
        restated.publish_id = erased.publish_id
        and restated.mart = erased.mart
        and restated.business_month = erased.business_month
