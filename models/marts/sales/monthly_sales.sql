{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'changed_by': {
            'daily_sales': 'all',
            'dim_date': 'all',
            'int_households__active_months': 'all',
        }},
    )
}}

with

days as (

    select * from {{ ref('int_sales__days') }}

),

households as (

    select
        month_start_date,
        count(*) as household_count
    from {{ ref('int_households__active_months') }}
    group by month_start_date

),

months as (

    select
        month_start_date,
        max(business_date) as last_date,
        extract(day from month_start_date + interval '1 month' - interval '1 day') as days_in_month,
        count(*) as day_count,
        count(*) filter (where has_sales) as days_with_sales,
        sum(basket_count) as basket_count,
        sum(line_count) as line_count,
        sum(item_count) as item_count,
        sum(sales_value) as sales_value,
        sum(retail_disc) as retail_disc,
        sum(coupon_disc) as coupon_disc,
        sum(coupon_match_disc) as coupon_match_disc,
        sum(regular_value) as regular_value,
        sum(loyalty_value) as loyalty_value,
        sum(customer_paid) as customer_paid,
        sum(sales_value) / nullif(count(*) filter (where has_sales), 0) as sales_per_day
    from days
    group by month_start_date

),

compared as (

    select
        *,
        lag(sales_value) over (order by month_start_date) as previous_sales_value,
        lag(sales_per_day) over (order by month_start_date) as previous_sales_per_day
    from months

)

select
    compared.month_start_date,
    compared.last_date,
    cast(compared.days_in_month as integer) as days_in_month,
    cast(compared.days_with_sales as integer) as days_with_sales,
    compared.day_count = compared.days_in_month as is_complete,
    cast(compared.basket_count as integer) as basket_count,
    cast(coalesce(households.household_count, 0) as integer) as household_count,
    cast(compared.line_count as integer) as line_count,
    cast(compared.item_count as integer) as item_count,
    cast(compared.sales_value as numeric(12, 2)) as sales_value,
    cast(compared.retail_disc as numeric(12, 2)) as retail_disc,
    cast(compared.coupon_disc as numeric(12, 2)) as coupon_disc,
    cast(compared.coupon_match_disc as numeric(12, 2)) as coupon_match_disc,
    cast(compared.regular_value as numeric(12, 2)) as regular_value,
    cast(compared.loyalty_value as numeric(12, 2)) as loyalty_value,
    cast(compared.customer_paid as numeric(12, 2)) as customer_paid,
    cast(compared.retail_disc + compared.coupon_disc + compared.coupon_match_disc as numeric(12, 2)) as discount_value,
    cast(compared.sales_per_day as numeric(12, 2)) as sales_per_day,
    cast(compared.sales_value - compared.previous_sales_value as numeric(12, 2)) as sales_change,
    cast(compared.sales_value / nullif(compared.previous_sales_value, 0) - 1 as numeric(9, 4)) as sales_change_rate,
    cast(
        compared.sales_per_day / nullif(compared.previous_sales_per_day, 0) - 1 as numeric(9, 4)
    ) as sales_per_day_change_rate,
    cast(days.rolling_28d_sales as numeric(12, 2)) as rolling_28d_sales
from compared
inner join days on compared.last_date = days.business_date
left join households on compared.month_start_date = households.month_start_date
