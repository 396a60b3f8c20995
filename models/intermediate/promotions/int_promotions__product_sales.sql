{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={
            'partition_by': ['product_id', 'promotion'],
            'changed_by': {'int_promotions__sales_lines': 'product_id, promotion'},
        },
    )
}}

with

changes as (

    select
        product_id,
        promotion,
        sign as line_count,
        sign * sales_value as sales_value
    from {{ granary.changed_rows(ref('int_promotions__sales_lines')) }} as changed
    {%- if is_incremental() %}

    union all

    select
        product_id,
        promotion,
        line_count,
        sales_value
    from {{ this }}
    where {{ granary.in_partitions() }}
    {%- endif %}

)

select
    product_id,
    promotion,
    cast(sum(line_count) as integer) as line_count,
    cast(sum(sales_value) as numeric(12, 2)) as sales_value
from changes
group by product_id, promotion
having sum(line_count) <> 0
