{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': 'business_date', 'changed_by': {'fct_baskets': 'business_date'}},
    )
}}

with

baskets as (

    select * from {{ ref('fct_baskets') }}
    where {{ granary.in_partitions() }}

)

select
    business_date,
    store_id,
    cast(count(*) as integer) as basket_count,
    cast(count(distinct household_id) as integer) as household_count,
    cast(sum(line_count) as integer) as line_count,
    cast(sum(item_count) as integer) as item_count,
    cast(sum(sales_value) as numeric(12, 2)) as sales_value,
    cast(sum(retail_disc) as numeric(12, 2)) as retail_disc,
    cast(sum(coupon_disc) as numeric(12, 2)) as coupon_disc,
    cast(sum(coupon_match_disc) as numeric(12, 2)) as coupon_match_disc,
    cast(sum(regular_value) as numeric(12, 2)) as regular_value,
    cast(sum(loyalty_value) as numeric(12, 2)) as loyalty_value,
    cast(sum(customer_paid) as numeric(12, 2)) as customer_paid,
    cast(sum(retail_disc + coupon_disc + coupon_match_disc) as numeric(12, 2)) as discount_value
from baskets
group by business_date, store_id
