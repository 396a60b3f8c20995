{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': ['product_id', 'household_id'], 'changed_by': {'fct_sales': 'product_id, household_id'}},
    )
}}

with

changes as (

    select
        product_id,
        household_id,
        sign as line_count
    from {{ granary.changed_rows(ref('fct_sales')) }} as changed
    {%- if is_incremental() %}

    union all

    select
        product_id,
        household_id,
        line_count
    from {{ this }}
    where {{ granary.in_partitions() }}
    {%- endif %}

)

select
    product_id,
    household_id,
    cast(sum(line_count) as integer) as line_count
from changes
group by product_id, household_id
having sum(line_count) <> 0
