{{ config(materialized='incremental', incremental_strategy='overwrite_partitions') }}

with

coupons as (

    select * from {{ ref('stg_marketing__coupons') }}

),

campaigns as (

    select * from {{ ref('dim_campaign') }}

)

select
    coupons.coupon_upc,
    cast(count(distinct coupons.product_id) as integer) as product_count,
    cast(count(distinct coupons.campaign_id) as integer) as campaign_count,
    min(campaigns.start_date) as first_start_date,
    max(campaigns.end_date) as last_end_date
from coupons
left join campaigns on coupons.campaign_id = campaigns.campaign_id
group by coupons.coupon_upc
