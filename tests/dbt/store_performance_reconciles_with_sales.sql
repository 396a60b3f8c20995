{{ config(meta={'dagster': {'ref': {'name': 'store_performance'}}}) }}

-- Every store that sells: store_performance adds up to the baskets, in days, baskets, households, units and cents.
{% set and_changed = granary.and_of_latest_publish({'fct_baskets': 'store_id'}, 'store_id', sample=8) %}

with

marts as (

    select * from {{ ref('store_performance') }}
    where
        (basket_count > 0 or sales_value > 0) {{ and_changed }}

),

facts as (

    select
        store_id,
        min(business_date) as first_sale_date,
        max(business_date) as last_sale_date,
        count(distinct business_date) as days_with_sales,
        count(*) as basket_count,
        count(distinct household_id) as household_count,
        sum(line_count) as line_count,
        sum(item_count) as item_count,
        sum(sales_value) as sales_value,
        sum(regular_value - customer_paid) as discount_value
    from {{ ref('fct_baskets') }}
    where true {{ and_changed }}
    group by store_id

)

select
    store_id,
    marts.sales_value as mart_value,
    facts.sales_value as fact_value
from marts
full outer join facts using (store_id)
where
    (
        marts.first_sale_date, marts.last_sale_date, marts.days_with_sales, marts.basket_count,
        marts.household_count, marts.line_count, marts.item_count, marts.sales_value, marts.discount_value
    )
    is distinct from
    (
        facts.first_sale_date, facts.last_sale_date, facts.days_with_sales, facts.basket_count,
        facts.household_count, facts.line_count, facts.item_count, facts.sales_value, facts.discount_value
    )
