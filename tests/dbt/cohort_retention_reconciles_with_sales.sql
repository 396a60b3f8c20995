{{ config(meta={'dagster': {'ref': {'name': 'cohort_retention'}}}) }}

-- Every month: the cohorts together are the households, baskets and cents of the lines.
with

marts as (

    select
        month_start_date,
        sum(active_household_count) as active_household_count,
        sum(basket_count) as basket_count,
        sum(sales_value) as sales_value
    from {{ ref('cohort_retention') }}
    group by month_start_date

),

facts as (

    select
        cast(date_trunc('month', business_date) as date) as month_start_date,
        count(distinct household_id) as active_household_count,
        count(distinct basket_id) as basket_count,
        sum(sales_value) as sales_value
    from {{ ref('fct_sales') }}
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
