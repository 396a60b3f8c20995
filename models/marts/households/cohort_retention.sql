{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={
            'partition_by': 'month_start_date',
            'changed_by': {'int_households__months': 'month_start_date'},
        },
    )
}}

with

household_months as (

    select * from {{ ref('int_households__months') }}
    where {{ granary.in_partitions() }}

)

select
    cohort_month,
    month_start_date,
    months_since_first,
    cast(count(*) as integer) as cohort_size,
    cast(count(*) filter (where is_active) as integer) as active_household_count,
    cast(1.0 * count(*) filter (where is_active) / count(*) as numeric(9, 4)) as retention,
    cast(sum(basket_count) as integer) as basket_count,
    cast(sum(sales_value) as numeric(12, 2)) as sales_value
from household_months
group by cohort_month, month_start_date, months_since_first
