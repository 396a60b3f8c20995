{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': 'business_date', 'changed_by': {
            'fct_sales': 'business_date', 'dim_date': 'never', 'dim_household': 'never', 'dim_store': 'never',
        }},
        on_schema_change='fail',
        pre_hook="{{ granary.follow_watermark(ref('fct_sales')) }}",
    )
}}

-- The audit checks these: {{ ref('dim_date') }}, {{ ref('dim_household') }}, {{ ref('dim_store') }}.

with

sales as (

    select * from {{ ref('fct_sales') }}
    where {{ granary.in_partitions() }}

)

select
    basket_id,
    household_id,
    store_id,
    business_date,
    week,
    sold_at,
    household_key,
    cast(count(*) as integer) as line_count,
    cast(coalesce(sum(quantity) filter (where not is_fuel), 0) as integer) as item_count,
    cast(sum(sales_value) as numeric(12, 2)) as sales_value,
    cast(sum(retail_disc) as numeric(12, 2)) as retail_disc,
    cast(sum(coupon_disc) as numeric(12, 2)) as coupon_disc,
    cast(sum(coupon_match_disc) as numeric(12, 2)) as coupon_match_disc,
    cast(sum(regular_value) as numeric(12, 2)) as regular_value,
    cast(sum(loyalty_value) as numeric(12, 2)) as loyalty_value,
    cast(sum(customer_paid) as numeric(12, 2)) as customer_paid,
    bool_or(is_fuel) as has_fuel,
    bool_or(coupon_disc > 0) as has_coupon
from sales
group by
    basket_id,
    household_id,
    store_id,
    business_date,
    week,
    sold_at,
    household_key
