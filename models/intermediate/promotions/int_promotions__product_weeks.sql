{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={
            'partition_by': ['product_id', 'week'],
            'changed_by': {'int_promotions__sold_placements': 'product_id, week'},
        },
    )
}}

{{
    granary.kept_sums(
        ref('int_promotions__sold_placements'),
        by=['product_id', 'week'],
        sums={'placement_count': (1, 'integer')},
    )
}}
