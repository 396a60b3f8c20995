{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': 'week', 'changed_by': {'fct_sales': 'week'}},
    )
}}

with

sales as (

    select * from {{ ref('fct_sales') }}
    where quantity > 0 and not is_fuel and {{ granary.in_partitions() }}

),

lines as (

    select
        product_id,
        week,
        business_date,
        quantity,
        sales_value,
        round(regular_value / quantity, 2) as regular_price,
        round(loyalty_value / quantity, 2) as loyalty_price,
        case when coupon_disc > 0 then round(customer_paid / quantity, 2) end as coupon_price
    from sales

)

select
    product_id,
    week,
    min(business_date) as first_sold_date,
    max(business_date) as last_sold_date,
    cast(count(*) as integer) as line_count,
    cast(count(coupon_price) as integer) as coupon_line_count,
    sum(quantity) as item_count,
    cast(sum(sales_value) as numeric(12, 2)) as sales_value,
    cast(percentile_disc(0.5) within group (order by regular_price) as numeric(12, 2)) as regular_price,
    cast(percentile_disc(0.5) within group (order by loyalty_price) as numeric(12, 2)) as loyalty_price,
    cast(percentile_disc(0.5) within group (order by coupon_price) as numeric(12, 2)) as coupon_price
from lines
group by product_id, week
