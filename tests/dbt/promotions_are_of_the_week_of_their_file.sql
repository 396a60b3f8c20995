{{ config(severity='warn', meta={'dagster': {'ref': {'name': 'fct_promotions'}}}) }}

-- Worth a look, not worth stopping for: placements in the file of another week.
select
    loads.unit,
    promotions.week,
    count(*) as placement_count
from {{ ref('stg_pos__promotions') }} as promotions
inner join {{ source('ops', 'load_audit') }} as loads on promotions.load_id = loads.load_id
where
    (
        promotions.week <> cast(substring(loads.unit from 'week-(\d\d)') as integer)
    ) {{ granary.and_of_latest_publish({'fct_promotions': 'week'}, 'promotions.week') }}
group by loads.unit, promotions.week
