{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={
            'depends_on_vars': ['as_of'],
            'changed_by': {'fct_baskets': 'all', 'int_households__purchases': 'all'},
        },
    )
}}

with

forecasts as (

    select * from {{ ref('int_households__expected_sales') }}
    where days_back > 0

),

baskets as (

    select * from {{ ref('fct_baskets') }}

),

outcomes as (

    select
        forecasts.household_id,
        forecasts.reference_date,
        sum(baskets.sales_value) as actual_value
    from forecasts
    inner join baskets
        on
            forecasts.household_id = baskets.household_id
            and forecasts.reference_date <= baskets.business_date
            and forecasts.reference_date + 90 > baskets.business_date
    group by forecasts.household_id, forecasts.reference_date

),

compared as (

    select
        forecasts.reference_date,
        methods.method,
        methods.forecast_value,
        coalesce(outcomes.actual_value, 0) as actual_value
    from forecasts
    left join outcomes
        on forecasts.household_id = outcomes.household_id and forecasts.reference_date = outcomes.reference_date
    cross join lateral (
        values
        ('expected_90d_sales', forecasts.expected_value),
        ('last_90_days_repeated', forecasts.last_90_days_value),
        ('average_rate_since_first', forecasts.average_rate_value)
    ) as methods (method, forecast_value)

)

select
    reference_date,
    method,
    cast(count(*) as integer) as household_count,
    cast(sum(actual_value) as numeric(12, 2)) as actual_value,
    cast(sum(forecast_value) as numeric(12, 2)) as forecast_value,
    cast(sum(forecast_value) / nullif(sum(actual_value), 0) - 1 as numeric(9, 4)) as total_error_rate,
    cast(avg(abs(forecast_value - actual_value)) as numeric(12, 2)) as mean_absolute_error,
    cast(sqrt(avg(power(forecast_value - actual_value, 2))) as numeric(12, 2)) as root_mean_square_error
from compared
group by reference_date, method
