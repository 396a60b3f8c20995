with

purchases as (

    select * from {{ ref('int_households__purchases') }}

),

reference_days as (

    select * from {{ ref('int_households__reference_days') }}

),

-- All purchases are of the time before the reference day of household_value; those after an earlier one are taken off.
recent as (

    select
        reference_days.reference_date,
        baskets.household_id,
        sum(baskets.sales_value) filter (
            where baskets.business_date < reference_days.reference_date
        ) as recent_value,
        sum(baskets.sales_value) filter (
            where baskets.business_date >= reference_days.reference_date
        ) as later_value
    from reference_days
    inner join {{ ref('fct_baskets') }} as baskets
        on
            reference_days.reference_date - 90 <= baskets.business_date
            and reference_days.reference_date + reference_days.days_back > baskets.business_date
    group by reference_days.reference_date, baskets.household_id

),

known as (

    select
        purchases.household_id,
        reference_days.reference_date,
        reference_days.days_back,
        coalesce(recent.recent_value, 0) as recent_value,
        90 * (purchases.sales_value - coalesce(recent.later_value, 0))
        / greatest(reference_days.reference_date - purchases.first_purchase_date, 90) as average_rate_value
    from purchases
    inner join reference_days on purchases.first_purchase_date < reference_days.reference_date
    left join recent
        on purchases.household_id = recent.household_id and reference_days.reference_date = recent.reference_date

)

select
    household_id,
    reference_date,
    days_back,
    cast(recent_value as numeric(12, 2)) as last_90_days_value,
    cast(average_rate_value as numeric(12, 2)) as average_rate_value,
    cast((recent_value + average_rate_value) / 2 as numeric(12, 2)) as expected_value
from known
