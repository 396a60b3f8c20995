{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={
            'partition_by': ['category_a_id', 'category_b_id'],
            'changed_by': {'int_products__category_pairs': 'category_a_id, category_b_id'},
        },
    )
}}

with

changes as (

    select
        category_a_id,
        category_b_id,
        sign * basket_count as basket_count
    from {{ granary.changed_rows(ref('int_products__category_pairs')) }} as changed
    {%- if is_incremental() %}

    union all

    select
        category_a_id,
        category_b_id,
        basket_count
    from {{ this }}
    where {{ granary.in_partitions() }}
    {%- endif %}

)

select
    category_a_id,
    category_b_id,
    cast(sum(basket_count) as integer) as basket_count
from changes
group by category_a_id, category_b_id
having sum(basket_count) <> 0
