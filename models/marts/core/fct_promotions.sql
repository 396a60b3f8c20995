{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        unique_key='week',
        meta={'changes': 'int_promotions__changed_weeks'},
        on_schema_change='fail',
        pre_hook=[
            "{{ granary.follow_watermark(ref('int_promotions__changed_weeks')) }}",
            "set local enable_hashagg = off",
        ],
    )
}}

-- The audit checks these: {{ ref('dim_product') }}, {{ ref('dim_store') }}.

{% set log = ref('int_promotions__changed_weeks') %}

-- One week at a time: each fits into memory (400 thousand rows), all 53 at once do not. Sorted groups leave the
-- table in the order of its index, which then takes 5 s to build instead of 15 s.
with

changes as (

    select * from {{ log }}
    where {{ granary.in_changed_partitions(log, 'week') }}

),

weeks as (

    select
        week,
        array_agg(load_id) || array({{ granary.loads_not_logged('pos', 'promotions') }}) as load_ids
    from changes
    where reason = 'arrived'
    group by week

)

select
    placements.product_id,
    placements.store_id,
    weeks.week,
    placements.display_location,
    placements.mailer_location,
    placements.display_location <> '0' as is_on_display,
    placements.mailer_location <> '0' as is_in_mailer,
    placements.placement_count
from weeks
cross join lateral (
    -- '0' (none) sorts before every other code, so a repeated key takes its greatest real placement.
    select
        promotions.product_id,
        promotions.store_id,
        max(promotions.display_location) as display_location,
        max(promotions.mailer_location) as mailer_location,
        cast(count(*) as smallint) as placement_count
    from {{ ref('stg_pos__promotions') }} as promotions
    where promotions.load_id = any(weeks.load_ids) and promotions.week = weeks.week
    group by promotions.product_id, promotions.store_id
) as placements
