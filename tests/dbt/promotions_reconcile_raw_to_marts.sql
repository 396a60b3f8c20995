{{ config(meta={'dagster': {'ref': {'name': 'fct_promotions'}}}) }}

-- Every week of fct_promotions stands for every row of raw.
with

raw_weeks as (

    select
        week,
        count(*) as row_count
    from {{ source('pos', 'promotions') }}
    where true {{ granary.and_of_loads_behind_latest_publish('fct_promotions', '_load_id') }}
    group by week

),

facts as (

    select
        week,
        sum(placement_count) as row_count
    from {{ ref('fct_promotions') }}
    where true {{ granary.and_of_latest_publish({'fct_promotions': 'week'}, 'week') }}
    group by week

)

select
    week,
    raw_weeks.row_count as raw_count,
    facts.row_count as fact_count
from raw_weeks
full outer join facts using (week)
where raw_weeks.row_count is distinct from facts.row_count
