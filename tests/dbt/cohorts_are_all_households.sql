{{ config(meta={'dagster': {'ref': {'name': 'cohort_retention'}}}) }}

-- Every cohort: its size, in each of its rows, is the households whose first basket is of that month.
with

cohorts as (

    select
        cohort_month,
        min(cohort_size) as smallest_size,
        max(cohort_size) as largest_size
    from {{ ref('cohort_retention') }}
    group by cohort_month

),

firsts as (

    select
        household_id,
        cast(date_trunc('month', min(business_date)) as date) as cohort_month
    from {{ ref('fct_baskets') }}
    group by household_id

),

sizes as (

    select
        cohort_month,
        count(*) as household_count
    from firsts
    group by cohort_month

)

select
    cohort_month,
    cohorts.smallest_size,
    cohorts.largest_size,
    sizes.household_count
from cohorts
full outer join sizes using (cohort_month)
where
    (cohorts.smallest_size, cohorts.largest_size)
    is distinct from
    (sizes.household_count, sizes.household_count)
