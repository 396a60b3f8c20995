-- A month changes with what was bought in it and in the month before, and with the households that it has; the months
-- between the last one that was known and a new one are there, too.
{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': 'month_start_date', 'changed_by': {
            'int_households__active_months': "
                select cast(generate_series(
                    cast(least(
                        min(month_start_date), (select max(month_start_date) from {int_households__months})
                    ) as timestamp),
                    max(month_start_date) + interval '1 month',
                    interval '1 month'
                ) as date)
                from changes
                union
                select month_start_date
                from {int_households__months}
                where month_start_date > coalesce(
                    (select max(month_start_date) from {int_households__active_months}), '-infinity'
                )
            ",
            'int_households__cohorts': "
                select distinct month_start_date
                from {int_households__months}
                where month_start_date >= (select min(cohort_month) from changes)
            ",
            'dim_date': 'rebuild',
        }},
    )
}}

with

cohorts as (

    select * from {{ ref('int_households__cohorts') }}

),

span as (

    select
        min(month_start_date) as first_month,
        max(month_start_date) as last_month
    from {{ ref('int_households__active_months') }}

),

months as (

    select distinct dates.month_start_date -- a month has many days
    from {{ ref('dim_date') }} as dates
    inner join span on dates.month_start_date between span.first_month and span.last_month
    where {{ granary.in_partitions('dates.month_start_date') }}

)

select
    cohorts.household_id,
    cohorts.household_key,
    cohorts.cohort_month,
    months.month_start_date,
    cast(
        12 * (extract(year from months.month_start_date) - extract(year from cohorts.cohort_month))
        + extract(month from months.month_start_date) - extract(month from cohorts.cohort_month) as integer
    ) as months_since_first,
    active.household_id is not null as is_active,
    previous.household_id is not null as was_active_month_before,
    cast(coalesce(active.basket_count, 0) as integer) as basket_count,
    cast(coalesce(active.sales_value, 0) as numeric(12, 2)) as sales_value
from cohorts
inner join months on cohorts.cohort_month <= months.month_start_date
left join {{ ref('int_households__active_months') }} as active
    on cohorts.household_id = active.household_id and months.month_start_date = active.month_start_date
left join {{ ref('int_households__active_months') }} as previous
    on
        cohorts.household_id = previous.household_id
        and cast(months.month_start_date - interval '1 month' as date) = previous.month_start_date
