{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        unique_key='business_date',
        meta={'changes': 'int_redemptions__changed_dates'},
        on_schema_change='fail',
        pre_hook="{{ granary.follow_watermark(ref('int_redemptions__changed_dates')) }}",
    )
}}

-- The audit checks these: {{ ref('dim_campaign') }}, {{ ref('dim_coupon') }}, {{ ref('dim_date') }}.

{% set changes = ref('int_redemptions__changed_dates') %}

with

redemptions as (

    select * from {{ ref('stg_events__coupon_redemptions') }}
    where {{ granary.in_changed_partitions(changes, 'business_date', 'events', 'coupon_redemptions') }}

),

households as (

    select * from {{ ref('dim_household') }}

)

select
    redemptions.event_id as redemption_id,
    redemptions.household_id,
    redemptions.coupon_upc,
    redemptions.campaign_id,
    redemptions.business_date,
    redemptions.occurred_at,
    households.household_key,
    redemptions.load_id
from redemptions
left join households
    on
        redemptions.household_id = households.household_id
        and redemptions.occurred_at >= households.valid_from
        and redemptions.occurred_at < households.valid_to
