{{ config(meta={'dagster': {'ref': {'name': 'fct_coupon_redemptions'}}}) }}

-- Every load of redemptions: raw and the fact have the same number of events.
with

raw_events as (

    select
        _load_id as load_id,
        count(*) as row_count
    from {{ source('events', 'coupon_redemptions') }}
    group by _load_id

),

facts as (

    select
        load_id,
        count(*) as row_count
    from {{ ref('fct_coupon_redemptions') }}
    group by load_id

)

select
    load_id,
    raw_events.row_count as raw_count,
    facts.row_count as fact_count
from raw_events
full outer join facts using (load_id)
where facts.row_count is distinct from raw_events.row_count
