{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': ['product_id', 'week'], 'changed_by': {'fct_sales': 'product_id, week'}},
    )
}}

with

changes as (

    select
        product_id,
        week,
        sign as line_count
    from {{ granary.changed_rows(ref('fct_sales')) }} as changed
    {%- if is_incremental() %}

    union all

    select
        product_id,
        week,
        line_count
    from {{ this }}
    where {{ granary.in_partitions() }}
    {%- endif %}

)

select
    product_id,
    week,
    cast(sum(line_count) as integer) as line_count
from changes
group by product_id, week
having sum(line_count) <> 0
