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

{{
    granary.kept_sums(
        ref('int_promotions__sales_lines'),
        by=['product_id', 'promotion'],
        sums={'line_count': (1, 'integer'), 'sales_value': ('sales_value', 'numeric(12, 2)')},
    )
}}
