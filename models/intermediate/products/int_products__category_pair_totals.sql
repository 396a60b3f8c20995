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

{{
    granary.kept_sums(
        ref('int_products__category_pairs'),
        by=['category_a_id', 'category_b_id'],
        sums={'basket_count': ('basket_count', 'integer')},
    )
}}
