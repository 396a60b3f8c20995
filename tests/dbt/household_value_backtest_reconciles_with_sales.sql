{{ config(meta={'dagster': {'ref': {'name': 'household_value_backtest'}}}) }}

-- Every reference day of the back-test: the households that had bought before it, and what their baskets add up to
-- in the 90 days from it on.
with

backtest as (

    select * from {{ ref('household_value_backtest') }}

),

sales as (

    select
        household_id,
        business_date,
        sum(sales_value) as sales_value
    from {{ ref('fct_baskets') }}
    group by household_id, business_date

),

reference_days as (

    select distinct reference_date -- a row per method
    from backtest

),

known as (

    select
        reference_days.reference_date,
        sales.household_id,
        coalesce(
            sum(sales.sales_value) filter (
                where sales.business_date - reference_days.reference_date between 0 and 89
            ), 0
        ) as actual_value
    from reference_days
    cross join sales
    group by reference_days.reference_date, sales.household_id
    having min(sales.business_date) < reference_days.reference_date

),

expected as (

    select
        reference_date,
        count(*) as household_count,
        sum(actual_value) as actual_value
    from known
    group by reference_date

)

select
    backtest.reference_date,
    backtest.method,
    backtest.actual_value,
    expected.actual_value as fact_value
from backtest
left join expected on backtest.reference_date = expected.reference_date
where
    (backtest.household_count, backtest.actual_value)
    is distinct from
    (expected.household_count, expected.actual_value)
