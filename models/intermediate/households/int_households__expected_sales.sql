with

baskets as (

    select * from {{ ref('fct_baskets') }}

),

reference_days as (

    select * from {{ ref('int_households__reference_days') }}

),

known as (

    select
        reference_days.reference_date,
        reference_days.days_back,
        baskets.household_id,
        reference_days.reference_date - min(baskets.business_date) as days_known,
        sum(baskets.sales_value) as sales_value,
        coalesce(
            sum(baskets.sales_value) filter (where baskets.business_date >= reference_days.reference_date - 90), 0
        ) as recent_value
    from baskets
    inner join reference_days on baskets.business_date < reference_days.reference_date
    group by reference_days.reference_date, reference_days.days_back, baskets.household_id

)

select
    household_id,
    reference_date,
    days_back,
    cast(recent_value as numeric(12, 2)) as last_90_days_value,
    cast(90 * sales_value / greatest(days_known, 90) as numeric(12, 2)) as average_rate_value,
    cast((recent_value + 90 * sales_value / greatest(days_known, 90)) / 2 as numeric(12, 2)) as expected_value
from known
