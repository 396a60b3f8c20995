{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={
            'partition_by': ['store_id', 'week'],
            'changed_by': {'int_promotions__sold_placements': 'store_id, week'},
        },
    )
}}

with

changes as (

    select
        store_id,
        week,
        sign as placement_count
    from {{ granary.changed_rows(ref('int_promotions__sold_placements')) }} as changed
    {%- if is_incremental() %}

    union all

    select
        store_id,
        week,
        placement_count
    from {{ this }}
    where {{ granary.in_partitions() }}
    {%- endif %}

)

select
    store_id,
    week,
    cast(sum(placement_count) as integer) as placement_count
from changes
group by store_id, week
having sum(placement_count) <> 0
