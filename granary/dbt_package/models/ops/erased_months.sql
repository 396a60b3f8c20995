with

publishes as (

    select
        publish_id,
        loads_seen,
        lag(loads_seen, 1, cast('{}' as jsonb)) over (order by publish_id) as previously_seen
    from {{ source('ops', 'publishes') }}
    where schema_name = '{{ granary.published_schema() }}'

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

sums as (

    select
        followed.publish_id,
        split_part(totals.relation, '.', 2) as mart,
        totals.business_month,
        parts.key as measure,
        sum(cast(parts.value as numeric)) as erased
    from followed
    inner join {{ source('ops', 'erased_totals') }} as totals on followed.erasure_id = totals.erasure_id
    cross join
        lateral jsonb_each_text(
            totals.measures || jsonb_build_object('row_count', totals.row_count)
        ) as parts (key, value)
    where split_part(totals.relation, '.', 1) = '{{ granary.published_schema() }}' and parts.value is not null
    group by followed.publish_id, totals.relation, totals.business_month, parts.key

)

select
    sums.publish_id,
    sums.mart,
    sums.business_month,
    jsonb_object_agg(sums.measure, sums.erased) as erased,
    (
        select array_agg(followed.erasure_id order by followed.erasure_id)
        from followed
        where followed.publish_id = sums.publish_id
    ) as erasure_ids
from sums
group by sums.publish_id, sums.mart, sums.business_month
