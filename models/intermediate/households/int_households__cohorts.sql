{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': 'household_id', 'changed_by': {'fct_baskets': 'household_id'}},
    )
}}

with

baskets as (

    select * from {{ ref('fct_baskets') }}
    where {{ granary.in_partitions() }}

)

select distinct on (household_id)
    household_id,
    household_key,
    cast(date_trunc('month', business_date) as date) as cohort_month
from baskets
order by household_id, sold_at, basket_id
