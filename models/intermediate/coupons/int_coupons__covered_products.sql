{{ config(materialized='incremental', incremental_strategy='overwrite_partitions') }}

with

lines as (

    select * from {{ ref('stg_marketing__coupons') }}

)

select distinct -- the API repeats lines
    campaign_id,
    coupon_upc,
    product_id
from lines
