{{ config(meta={'dagster': {'ref': {'name': 'monthly_sales'}}}) }}

-- Every month: monthly_sales adds up to the baskets, in number, households, units and cents, and so do its last
-- 28 days.
{% set changed = {"fct_sales": "cast(date_trunc('month', business_date) as date)"} %}
{% do changed.update({"monthly_sales": "month_start_date"}) %}

with

marts as (

    select * from {{ ref('monthly_sales') }}
    where sales_value > 0 {{ granary.and_of_latest_publish(changed, 'month_start_date') }}

),

days as (

    select
        business_date,
        sum(sales_value) as sales_value
    from {{ ref('daily_sales') }}
    group by business_date

),

months as (

    select
        cast(date_trunc('month', business_date) as date) as month_start_date,
        least(
            cast(date_trunc('month', business_date) + interval '1 month' - interval '1 day' as date),
            (select max(days.business_date) from days)
        ) as last_date,
        count(distinct business_date) as days_with_sales,
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
    where
        business_date in (
            select dates.date_day from {{ ref('dim_date') }} as dates
            where true {{ granary.and_of_latest_publish(changed, 'dates.month_start_date') }}
        )
    group by date_trunc('month', business_date)

),

facts as (

    select
        months.*,
        case
            when months.last_date - (select min(days.business_date) from days) >= 27
                then (
                    select coalesce(sum(days.sales_value), 0)
                    from days
                    where days.business_date between months.last_date - 27 and months.last_date
                )
        end as rolling_28d_sales
    from months

)

select
    month_start_date,
    marts.sales_value as mart_value,
    facts.sales_value as fact_value
from marts
full outer join facts using (month_start_date)
where
    (
        marts.basket_count, marts.household_count, marts.line_count, marts.item_count, marts.sales_value,
        marts.retail_disc, marts.coupon_disc, marts.coupon_match_disc, marts.regular_value, marts.loyalty_value,
        marts.customer_paid, marts.discount_value, marts.last_date, marts.days_with_sales, marts.rolling_28d_sales
    )
    is distinct from
    (
        facts.basket_count, facts.household_count, facts.line_count, facts.item_count, facts.sales_value,
        facts.retail_disc, facts.coupon_disc, facts.coupon_match_disc, facts.regular_value, facts.loyalty_value,
        facts.customer_paid, facts.discount_value, facts.last_date, facts.days_with_sales, facts.rolling_28d_sales
    )
