{{ config(severity='warn', meta={'dagster': {'ref': {'name': 'fct_promotions'}}}) }}

-- Worth a look, not worth stopping for: placements in the file of another week.
with

placements as (

    select
        load_id,
        week,
        count(*) as placement_count
    from {{ ref('stg_pos__promotions') }}
    where true {{ granary.and_of_new_loads(none, 'pos', 'load_id') }}
    group by load_id, week

)

select
    loads.unit,
    placements.week,
    placements.placement_count
from placements
inner join {{ source('ops', 'load_audit') }} as loads on placements.load_id = loads.load_id
where placements.week <> cast(substring(loads.unit from 'week-(\d\d)') as integer)
