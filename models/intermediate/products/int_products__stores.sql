{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': ['product_id', 'store_id'], 'changed_by': {'fct_sales': 'product_id, store_id'}},
    )
}}

{{
    granary.kept_sums(
        ref('fct_sales'),
        by=['product_id', 'store_id'],
        sums={'line_count': (1, 'integer')},
    )
}}
