-- A table: a view would go whenever somebody rebuilds what it reads.
{{ config(materialized='table') }}

with

baskets as (

    select * from {{ ref('fct_baskets') }}

),

dates as (

    select * from {{ ref('dim_date') }}

),

span as (

    select
        min(business_date) as first_date,
        max(business_date) as last_date
    from baskets

),

months as (

    select distinct dates.month_start_date -- a month has many days
    from dates
    inner join span on dates.date_day between span.first_date and span.last_date

),

first_baskets as (

    select distinct on (household_id)
        household_id,
        household_key,
        cast(date_trunc('month', business_date) as date) as cohort_month
    from baskets
    order by household_id, sold_at, basket_id

),

active as (

    select
        household_id,
        cast(date_trunc('month', business_date) as date) as month_start_date,
        count(*) as basket_count,
        sum(sales_value) as sales_value
    from baskets
    group by household_id, date_trunc('month', business_date)

),

household_months as (

    select
        first_baskets.household_id,
        first_baskets.household_key,
        first_baskets.cohort_month,
        months.month_start_date,
        active.household_id is not null as is_active,
        coalesce(active.basket_count, 0) as basket_count,
        coalesce(active.sales_value, 0) as sales_value
    from first_baskets
    inner join months on first_baskets.cohort_month <= months.month_start_date
    left join active
        on first_baskets.household_id = active.household_id and months.month_start_date = active.month_start_date

)

select
    household_id,
    household_key,
    cohort_month,
    month_start_date,
    cast(
        12 * (extract(year from month_start_date) - extract(year from cohort_month))
        + extract(month from month_start_date) - extract(month from cohort_month) as integer
    ) as months_since_first,
    is_active,
    coalesce(
        lag(is_active) over (partition by household_id order by month_start_date), false
    ) as was_active_month_before,
    cast(basket_count as integer) as basket_count,
    cast(sales_value as numeric(12, 2)) as sales_value
from household_months
