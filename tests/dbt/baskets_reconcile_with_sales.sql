{{ config(meta={'dagster': {'ref': {'name': 'fct_baskets'}}}) }}

-- Every business date: the baskets add up to the sales, in lines, baskets, units and cents. Other tests
-- rely on it: they compare with the baskets, of which there are fewer.
{% set and_changed = granary.and_of_latest_publish({'fct_baskets': 'business_date'}, 'business_date') %}

with

sales as (

    select
        business_date,
        count(*) as line_count,
        count(distinct basket_id) as basket_count,
        coalesce(sum(quantity) filter (where not is_fuel), 0) as item_count,
        sum(sales_value) as sales_value,
        sum(retail_disc) as retail_disc,
        sum(coupon_disc) as coupon_disc,
        sum(coupon_match_disc) as coupon_match_disc,
        sum(regular_value) as regular_value,
        sum(loyalty_value) as loyalty_value,
        sum(customer_paid) as customer_paid
    from {{ ref('fct_sales') }}
    where true {{ and_changed }}
    group by business_date

),

baskets as (

    select
        business_date,
        sum(line_count) as line_count,
        count(*) as basket_count,
        sum(item_count) as item_count,
        sum(sales_value) as sales_value,
        sum(retail_disc) as retail_disc,
        sum(coupon_disc) as coupon_disc,
        sum(coupon_match_disc) as coupon_match_disc,
        sum(regular_value) as regular_value,
        sum(loyalty_value) as loyalty_value,
        sum(customer_paid) as customer_paid
    from {{ ref('fct_baskets') }}
    where true {{ and_changed }}
    group by business_date

)

select
    business_date,
    sales.line_count as sales_lines,
    baskets.line_count as basket_lines,
    sales.sales_value,
    baskets.sales_value as basket_value
from sales
full outer join baskets using (business_date)
where
    (
        sales.line_count, sales.basket_count, sales.item_count, sales.sales_value,
        sales.retail_disc, sales.coupon_disc, sales.coupon_match_disc,
        sales.regular_value, sales.loyalty_value, sales.customer_paid
    )
    is distinct from
    (
        baskets.line_count, baskets.basket_count, baskets.item_count, baskets.sales_value,
        baskets.retail_disc, baskets.coupon_disc, baskets.coupon_match_disc,
        baskets.regular_value, baskets.loyalty_value, baskets.customer_paid
    )
