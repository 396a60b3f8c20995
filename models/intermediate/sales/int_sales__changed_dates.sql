{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        on_schema_change='fail',
        pre_hook="{{ granary.advance_watermark({
            'pos': [source('ops', 'load_audit')],
            'crm': [ref('int_crm__household_versions'), ref('int_crm__product_versions')],
        }) }}",
    )
}}

with

{{
    granary.log_changes(
        relation=ref('stg_pos__transactions'),
        partition='business_date',
        source_name='pos',
        moment='sold_at',
        versions={
            'household_id': ref('int_crm__household_versions'),
            'product_id': ref('int_crm__product_versions'),
        },
        versions_source='crm',
    )
}}
