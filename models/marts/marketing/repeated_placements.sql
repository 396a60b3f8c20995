{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        unique_key='week',
        meta={'changes': 'int_promotions__changed_weeks'},
        on_schema_change='fail',
        pre_hook="{{ granary.follow_watermark(ref('int_promotions__changed_weeks')) }}",
    )
}}

{% set log = ref('int_promotions__changed_weeks') %}
{% set seen = source('ops', 'model_watermarks') %}

with

changes as (

    select * from {{ log }}
    {% if is_incremental() %}
    where week = any(array({{ granary.changed_partitions(log, 'week', granary.watermark_name(), seen) }}))
    {% endif %}

),

loads as (

    select array_agg(load_id) || array({{ granary.loads_not_logged('pos', 'promotions') }}) as load_ids
    from changes
    where reason = 'arrived'

),

repeated as (

    select
        product_id,
        store_id,
        week
    from {{ ref('fct_promotions') }}
    where placement_count > 1 and week in (select changes.week from changes)

)

select
    promotions.product_id,
    promotions.store_id,
    promotions.week,
    promotions.display_location,
    promotions.mailer_location
from {{ ref('stg_pos__promotions') }} as promotions
inner join repeated
    on
        promotions.product_id = repeated.product_id
        and promotions.store_id = repeated.store_id
        and promotions.week = repeated.week
where promotions.load_id = any(array(select unnest(loads.load_ids) from loads))
