{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        unique_key='business_date',
        meta={'changes': 'int_sales__changed_dates'},
        on_schema_change='fail',
        pre_hook="{{ granary.follow_watermark(ref('int_sales__changed_dates')) }}",
    )
}}

-- The audit checks these: {{ ref('dim_date') }}, {{ ref('dim_store') }}.

{% set changes = ref('int_sales__changed_dates') %}

with

transactions as (

    select * from {{ ref('stg_pos__transactions') }}
    where {{ granary.in_changed_partitions(changes, 'business_date', 'pos', 'transactions') }}

),

products as (

    select * from {{ ref('dim_product') }}

),

households as (

    select * from {{ ref('dim_household') }}

)

select
    transactions.basket_id,
    transactions.product_id,
    transactions.household_id,
    transactions.store_id,
    transactions.business_date,
    transactions.week,
    transactions.sold_at,
    transactions.quantity,
    transactions.sales_value,
    transactions.retail_disc,
    transactions.coupon_disc,
    transactions.coupon_match_disc,
    cast(
        transactions.sales_value + transactions.retail_disc + transactions.coupon_match_disc as numeric(12, 2)
    ) as regular_value,
    cast(transactions.sales_value + transactions.coupon_match_disc as numeric(12, 2)) as loyalty_value,
    cast(transactions.sales_value - transactions.coupon_disc as numeric(12, 2)) as customer_paid,
    coalesce(products.is_fuel, false) as is_fuel,
    products.product_key,
    households.household_key,
    transactions.load_id
from transactions
left join products
    on
        transactions.product_id = products.product_id
        and transactions.sold_at >= products.valid_from
        and transactions.sold_at < products.valid_to
left join households
    on
        transactions.household_id = households.household_id
        and transactions.sold_at >= households.valid_from
        and transactions.sold_at < households.valid_to
