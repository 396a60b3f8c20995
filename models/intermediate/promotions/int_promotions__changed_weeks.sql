{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        on_schema_change='fail',
        pre_hook="{{ granary.advance_watermark({'pos': [source('ops', 'load_audit')]}) }}",
    )
}}

with

{{
    granary.log_changes(
        relation=ref('stg_pos__promotions'),
        partition='week',
        source_name='pos',
    )
}}
