{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': ['product_id', 'week'], 'changed_by': {'fct_sales': 'product_id, week'}},
    )
}}

{{
    granary.kept_sums(
        ref('fct_sales'),
        by=['product_id', 'week'],
        sums={'line_count': (1, 'integer')},
    )
}}
