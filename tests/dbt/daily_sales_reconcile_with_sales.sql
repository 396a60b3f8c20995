{{ config(meta={'dagster': {'ref': {'name': 'daily_sales'}}}) }}

-- Every business date and store: daily_sales adds up to the baskets, in baskets, households, units and cents.
{% set changed = {'fct_sales': 'business_date', 'daily_sales': 'business_date'} %}
{% set and_changed = granary.and_of_latest_publish(changed, 'business_date') %}

with

marts as (

    select * from {{ ref('daily_sales') }}
    where true {{ and_changed }}

),

facts as (

    select
        business_date,
        store_id,
        count(*) as basket_count,
        count(distinct household_id) as household_count,
        sum(line_count) as line_count,
        sum(item_count) as item_count,
        sum(sales_value) as sales_value,
        sum(retail_disc) as retail_disc,
        sum(coupon_disc) as coupon_disc,
        sum(coupon_match_disc) as coupon_match_disc,
        sum(regular_value) as regular_value,
        sum(loyalty_value) as loyalty_value,
        sum(customer_paid) as customer_paid,
        sum(regular_value - customer_paid) as discount_value
    from {{ ref('fct_baskets') }}
    where true {{ and_changed }}
    group by business_date, store_id

)

select
    business_date,
    store_id,
    marts.sales_value as mart_value,
    facts.sales_value as fact_value
from marts
full outer join facts using (business_date, store_id)
where
    (
        marts.basket_count, marts.household_count, marts.line_count, marts.item_count, marts.sales_value,
        marts.retail_disc, marts.coupon_disc, marts.coupon_match_disc, marts.regular_value, marts.loyalty_value,
        marts.customer_paid, marts.discount_value
    )
    is distinct from
    (
        facts.basket_count, facts.household_count, facts.line_count, facts.item_count, facts.sales_value,
        facts.retail_disc, facts.coupon_disc, facts.coupon_match_disc, facts.regular_value, facts.loyalty_value,
        facts.customer_paid, facts.discount_value
    )
