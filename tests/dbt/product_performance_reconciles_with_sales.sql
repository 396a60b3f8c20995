{{ config(meta={'dagster': {'ref': {'name': 'product_performance'}}}) }}

-- Every product that fct_sales has is there, with all of its lines, pieces, baskets and cents; rank and share follow
-- the sales; and all of them together have what all days have.
{% set and_changed = granary.and_of_latest_publish({'fct_sales': 'product_id'}, 'product_id', sample=16) %}

with

performance as (

    select
        *,
        lag(sales_value) over (order by sales_rank) as sales_value_before,
        sum(sales_value) over (order by sales_rank) / sum(sales_value) over () as cumulative
    from {{ ref('product_performance') }}

),

sales as (

    select
        product_id,
        count(*) as line_count,
        sum(quantity) filter (where not is_fuel) as item_count,
        count(distinct basket_id) as basket_count,
        count(distinct household_id) as household_count,
        sum(sales_value) as sales_value,
        sum(regular_value) as regular_value,
        sum(retail_disc) as retail_disc
    from {{ ref('fct_sales') }}
    where true {{ and_changed }}
    group by product_id

),

totals as (

    select
        sum(line_count) as line_count,
        sum(item_count) as item_count,
        sum(sales_value) as sales_value
    from performance

),

days as (

    select
        sum(line_count) as line_count,
        sum(item_count) as item_count,
        sum(sales_value) as sales_value
    from {{ ref('daily_sales') }}

)

select
    product_id,
    performance.sales_value as mart_value,
    sales.sales_value
from performance
full outer join sales using (product_id)
where
    true {{ and_changed }}
    and (
        performance.line_count, performance.item_count, performance.basket_count, performance.household_count,
        performance.sales_value, performance.regular_value, performance.retail_disc
    )
    is distinct from
    (
        sales.line_count, sales.item_count, sales.basket_count, sales.household_count,
        sales.sales_value, sales.regular_value, sales.retail_disc
    )

union all

select
    product_id,
    sales_value as mart_value,
    sales_value_before as sales_value
from performance
where sales_value > sales_value_before or round(cumulative, 6) <> cumulative_share

union all

select
    null as product_id,
    totals.sales_value as mart_value,
    days.sales_value
from totals
cross join days
where
    (totals.line_count, totals.item_count, totals.sales_value)
    is distinct from (days.line_count, days.item_count, days.sales_value)
