with

household_months as (

    select
        household_id,
        cast(date_trunc('month', business_date) as date) as month_start_date,
        count(*) as basket_count,
        sum(sales_value) as sales_value
    from {{ ref('fct_baskets') }}
    group by household_id, date_trunc('month', business_date)

),

households as (

    select
        household_id,
        min(month_start_date) as cohort_month
    from household_months
    group by household_id

),

cohorts as (

    select
        cohort_month,
        count(*) as cohort_size
    from households
    group by cohort_month

),

months as (

    select distinct month_start_date -- dim_date has a row per day
    from {{ ref('dim_date') }}
    where month_start_date <= (select max(household_months.month_start_date) from household_months)

),

activity as (

    select
        households.cohort_month,
        household_months.month_start_date,
        count(*) as active_household_count,
        sum(household_months.basket_count) as basket_count,
        sum(household_months.sales_value) as sales_value
    from household_months
    inner join households on household_months.household_id = households.household_id
    group by households.cohort_month, household_months.month_start_date

)

select
    cohorts.cohort_month,
    months.month_start_date,
    cast(
        12 * (extract(year from months.month_start_date) - extract(year from cohorts.cohort_month))
        + extract(month from months.month_start_date) - extract(month from cohorts.cohort_month) as integer
    ) as months_since_first,
    cast(cohorts.cohort_size as integer) as cohort_size,
    cast(coalesce(activity.active_household_count, 0) as integer) as active_household_count,
    cast(1.0 * coalesce(activity.active_household_count, 0) / cohorts.cohort_size as numeric(9, 4)) as retention,
    cast(coalesce(activity.basket_count, 0) as integer) as basket_count,
    cast(coalesce(activity.sales_value, 0) as numeric(12, 2)) as sales_value
from cohorts
inner join months on cohorts.cohort_month <= months.month_start_date
left join activity
    on cohorts.cohort_month = activity.cohort_month and months.month_start_date = activity.month_start_date
