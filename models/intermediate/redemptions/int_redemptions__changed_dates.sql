{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        on_schema_change='fail',
        pre_hook="{{ granary.advance_watermark({
            'events': [source('ops', 'load_audit')],
            'crm': [ref('int_crm__household_versions')],
        }) }}",
    )
}}

with

{{
    granary.log_changes(
        relation=ref('stg_events__coupon_redemptions'),
        partition='business_date',
        source_name='events',
        moment='occurred_at',
        versions={'household_id': ref('int_crm__household_versions')},
        versions_source='crm',
    )
}}
