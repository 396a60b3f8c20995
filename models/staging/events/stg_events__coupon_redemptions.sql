with

source as (

    select * from {{ source('events', 'coupon_redemptions') }}

)

select
    event_id,
    household_id,
    coupon_upc,
    campaign_id,
    occurred_at,
    cast(occurred_at at time zone '{{ var("time_zone") }}' as date) as business_date,
    _load_id as load_id,
    _row as load_row
from source
