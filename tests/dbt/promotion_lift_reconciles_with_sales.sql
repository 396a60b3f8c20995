{{ config(meta={'dagster': {'ref': {'name': 'promotion_lift'}}}) }}

-- Every product: sales on, off and without knowledge of promotion add up to fct_sales, each line once; and all products
-- together have each of the three as promotion_performance does.
{% set and_changed = granary.and_of_latest_publish({'fct_sales': 'product_id'}, 'product_id', sample=16) %}

with

lift as (

    select * from {{ ref('promotion_lift') }}

),

sales as (

    select
        product_id,
        count(*) as line_count,
        sum(sales_value) as sales_value
    from {{ ref('fct_sales') }}
    where true {{ and_changed }}
    group by product_id

),

performance as (

    select
        coalesce(sum(sales_value) filter (where promotion = 'on'), 0) as on_value,
        coalesce(sum(sales_value) filter (where promotion = 'off'), 0) as off_value
    from {{ ref('promotion_performance') }}

),

totals as (

    select
        coalesce(sum(on_sales_value), 0) as on_value,
        coalesce(sum(off_sales_value), 0) as off_value
    from lift

)

select
    product_id,
    lift.on_sales_value + lift.off_sales_value + lift.unknown_sales_value as mart_value,
    sales.sales_value
from (
    select * from lift
    where true {{ and_changed }}
) as lift
full outer join sales using (product_id)
where
    lift.on_line_count + lift.off_line_count + lift.unknown_line_count is distinct from sales.line_count
    or lift.on_sales_value + lift.off_sales_value + lift.unknown_sales_value is distinct from sales.sales_value

union all

select
    null as product_id,
    totals.on_value as mart_value,
    performance.on_value as sales_value
from totals
cross join performance
where (totals.on_value, totals.off_value) is distinct from (performance.on_value, performance.off_value)
