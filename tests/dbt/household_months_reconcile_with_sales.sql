{{ config(meta={'dagster': {'ref': {'name': 'int_households__months'}}}) }}

-- Every month: as many active households and as many new ones as the baskets have.
with

sold as (

    select
        household_id,
        date_trunc('month', business_date) as month_start_date
    from {{ ref('fct_baskets') }}
    group by household_id, date_trunc('month', business_date)

),

numbered as (

    select
        household_id,
        month_start_date,
        row_number() over (partition by household_id order by month_start_date) as month_number
    from sold

),

sales as (

    select
        month_start_date,
        count(*) as active_count,
        count(*) filter (where month_number = 1) as new_count
    from numbered
    group by month_start_date

),

household_months as (

    select
        date_trunc('month', month_start_date) as month_start_date,
        count(*) filter (where is_active) as active_count,
        count(*) filter (where months_since_first = 0) as new_count
    from {{ ref('int_households__months') }}
    group by month_start_date

)

select
    month_start_date,
    sales.active_count as active_in_sales,
    household_months.active_count,
    sales.new_count as new_in_sales,
    household_months.new_count
from sales
full outer join household_months using (month_start_date)
where
    (sales.active_count, sales.new_count)
    is distinct from (household_months.active_count, household_months.new_count)
