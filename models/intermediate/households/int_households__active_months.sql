{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': 'month_start_date', 'changed_by': {
            'fct_baskets': "cast(date_trunc('month', business_date) as date)",
            'dim_date': 'never',
        }},
    )
}}

with

baskets as (

    select * from {{ ref('fct_baskets') }}
    where {{ granary.in_partitions('business_date', ref('dim_date'), 'date_day') }}

)

select
    household_id,
    cast(date_trunc('month', business_date) as date) as month_start_date,
    cast(count(*) as integer) as basket_count,
    cast(sum(sales_value) as numeric(12, 2)) as sales_value
from baskets
group by household_id, date_trunc('month', business_date)
