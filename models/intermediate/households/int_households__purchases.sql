with

baskets as (

    select * from {{ ref('fct_baskets') }}

),

reference_days as (

    select * from {{ ref('int_households__reference_days') }}
    where days_back = 0

),

history as (

    select
        reference_days.reference_date as as_of_date,
        baskets.household_id,
        baskets.business_date,
        baskets.sales_value,
        baskets.regular_value,
        baskets.retail_disc + baskets.coupon_disc + baskets.coupon_match_disc as discount_value,
        baskets.business_date - lag(baskets.business_date) over (
            partition by baskets.household_id order by baskets.sold_at, baskets.basket_id
        ) as gap_days
    from baskets
    inner join reference_days on baskets.business_date < reference_days.reference_date

)

select
    household_id,
    as_of_date,
    min(business_date) as first_purchase_date,
    max(business_date) as last_purchase_date,
    count(*) as basket_count,
    count(distinct business_date) as shopping_day_count,
    count(distinct date_trunc('month', business_date)) as active_month_count,
    percentile_cont(0.5) within group (order by gap_days) as median_gap_days,
    cast(sum(sales_value) as numeric(12, 2)) as sales_value,
    cast(sum(regular_value) as numeric(12, 2)) as regular_value,
    cast(sum(discount_value) as numeric(12, 2)) as discount_value
from history
group by household_id, as_of_date
