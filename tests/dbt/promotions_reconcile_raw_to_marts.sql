{{ config(meta={'dagster': {'ref': {'name': 'fct_promotions'}}}) }}

-- Every week of fct_promotions stands for every row of raw; after an increment, of the loads that its weeks come from.
{% set changed_weeks = granary.and_of_latest_publish({'fct_promotions': 'week'}, 'week') %}

with

loads as (

    select load_id
    from {{ ref('int_promotions__changed_weeks') }}
    where reason = 'arrived' {{ changed_weeks }}

),

raw_weeks as (

    select
        week,
        count(*) as row_count
    from {{ source('pos', 'promotions') }}
    where {{ '' if changed_weeks else 'true or ' }}_load_id = any(array(select loads.load_id from loads))
    group by week

),

facts as (

    select
        week,
        sum(placement_count) as row_count
    from {{ ref('fct_promotions') }}
    where true {{ changed_weeks }}
    group by week

)

select
    week,
    raw_weeks.row_count as raw_count,
    facts.row_count as fact_count
from raw_weeks
full outer join facts using (week)
where raw_weeks.row_count is distinct from facts.row_count
