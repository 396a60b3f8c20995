{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'changes': 'int_promotions__changed_weeks', 'partition_by': 'week'},
        on_schema_change='fail',
        pre_hook="{{ granary.follow_watermark(ref('int_promotions__changed_weeks')) }}",
    )
}}

{% set changes = ref('int_promotions__changed_weeks') %}

with

promotions as (

    select * from {{ ref('stg_pos__promotions') }}
    where {{ granary.in_changed_partitions(changes, 'week', 'pos', 'promotions') }}

),

repeated as (

    select
        product_id,
        store_id,
        week
    from {{ ref('fct_promotions') }}
    where placement_count > 1 and {{ granary.in_partitions() }}

)

select
    promotions.product_id,
    promotions.store_id,
    promotions.week,
    promotions.display_location,
    promotions.mailer_location
from promotions
inner join repeated
    on
        promotions.product_id = repeated.product_id
        and promotions.store_id = repeated.store_id
        and promotions.week = repeated.week
