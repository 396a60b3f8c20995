{{ config(meta={'dagster': {'ref': {'name': 'cohort_retention'}}}) }}

-- Every month: the cohorts together are the households, number and cents of the baskets.
{% set changed = {'fct_sales': "cast(date_trunc('month', business_date) as date)"} %}

with

marts as (

    select
        month_start_date,
        sum(active_household_count) as active_household_count,
        sum(basket_count) as basket_count,
        sum(sales_value) as sales_value
    from {{ ref('cohort_retention') }}
    where true {{ granary.and_of_latest_publish(changed, 'month_start_date') }}
    group by month_start_date

),

facts as (

    select
        cast(date_trunc('month', business_date) as date) as month_start_date,
        count(distinct household_id) as active_household_count,
        count(*) as basket_count,
        sum(sales_value) as sales_value
    from {{ ref('fct_baskets') }}
    where
        business_date in (
            select dates.date_day from {{ ref('dim_date') }} as dates
            where true {{ granary.and_of_latest_publish(changed, 'dates.month_start_date') }}
        )
    group by date_trunc('month', business_date)

)

select
    month_start_date,
    marts.sales_value as mart_value,
    facts.sales_value as fact_value
from marts
full outer join facts using (month_start_date)
where
    (
        marts.active_household_count, marts.basket_count, marts.sales_value
    )
    is distinct from
    (
        facts.active_household_count, facts.basket_count, facts.sales_value
    )
