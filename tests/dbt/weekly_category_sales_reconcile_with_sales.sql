{{ config(meta={'dagster': {'ref': {'name': 'weekly_category_sales'}}}) }}

-- Every week, department and category: weekly_category_sales adds up to the lines, in units and cents.
{% set changed = {'fct_sales': 'week', 'weekly_category_sales': 'week'} %}

with

marts as (

    select * from {{ ref('weekly_category_sales') }}
    where true {{ granary.and_of_latest_publish(changed, 'week') }}

),

facts as (

    select
        sales.week,
        coalesce(products.department, 'unknown') as department,
        coalesce(products.product_category, 'unknown') as product_category,
        count(*) as line_count,
        coalesce(sum(sales.quantity) filter (where not sales.is_fuel), 0) as item_count,
        sum(sales.sales_value) as sales_value,
        sum(sales.retail_disc) as retail_disc,
        sum(sales.coupon_disc) as coupon_disc,
        sum(sales.coupon_match_disc) as coupon_match_disc,
        sum(sales.regular_value) as regular_value,
        sum(sales.regular_value - sales.customer_paid) as discount_value
    from {{ ref('fct_sales') }} as sales
    left join {{ ref('dim_product') }} as products on sales.product_key = products.product_key
    where true {{ granary.and_of_latest_publish(changed, 'sales.week') }}
    group by sales.week, products.department, products.product_category

)

select
    week,
    department,
    product_category,
    marts.sales_value as mart_value,
    facts.sales_value as fact_value
from marts
full outer join facts using (week, department, product_category)
where
    (
        marts.line_count, marts.item_count, marts.sales_value, marts.retail_disc, marts.coupon_disc,
        marts.coupon_match_disc, marts.regular_value, marts.discount_value
    )
    is distinct from
    (
        facts.line_count, facts.item_count, facts.sales_value, facts.retail_disc, facts.coupon_disc,
        facts.coupon_match_disc, facts.regular_value, facts.discount_value
    )
