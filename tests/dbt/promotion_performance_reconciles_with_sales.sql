{{ config(meta={'dagster': {'ref': {'name': 'promotion_performance'}}}) }}

-- Every week and department: the kinds of placement add up to fct_sales, each line once. In every thirteenth week also:
-- what is on promotion is what fct_promotions itself has a placement for.
{% set changed = {'fct_sales': 'week', 'promotion_performance': 'week'} %}

with

performance as (

    select
        week,
        department,
        sum(line_count) as line_count,
        sum(sales_value) as sales_value,
        sum(regular_value) as regular_value,
        sum(retail_disc) as retail_disc,
        sum(sales_value) filter (where promotion = 'on' and week % 13 = 0) as on_sales_value
    from {{ ref('promotion_performance') }}
    where true {{ granary.and_of_latest_publish(changed, 'week') }}
    group by week, department

),

lines as (

    select
        sales.week,
        coalesce(products.department, 'unknown') as department,
        sales.sales_value,
        sales.regular_value,
        sales.retail_disc,
        sales.week % 13 = 0 and exists (
            select 1
            from {{ ref('fct_promotions') }} as promotions
            where
                sales.week % 13 = 0
                and promotions.week = sales.week
                and promotions.product_id = sales.product_id
                and promotions.store_id = sales.store_id
        ) as is_promoted
    from {{ ref('fct_sales') }} as sales
    left join {{ ref('dim_product') }} as products on sales.product_key = products.product_key
    where true {{ granary.and_of_latest_publish(changed, 'sales.week') }}

),

sales as (

    select
        week,
        department,
        count(*) as line_count,
        sum(sales_value) as sales_value,
        sum(regular_value) as regular_value,
        sum(retail_disc) as retail_disc,
        sum(sales_value) filter (where is_promoted) as on_sales_value
    from lines
    group by week, department

)

select
    week,
    department,
    performance.sales_value as mart_value,
    sales.sales_value,
    performance.on_sales_value as mart_on_value,
    sales.on_sales_value
from performance
full outer join sales using (week, department)
where
    (
        performance.line_count, performance.sales_value, performance.regular_value, performance.retail_disc,
        performance.on_sales_value
    )
    is distinct from
    (sales.line_count, sales.sales_value, sales.regular_value, sales.retail_disc, sales.on_sales_value)
