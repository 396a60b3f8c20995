{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        unique_key=['campaign_id', 'comparison'],
        meta={'changed_by': {'dim_campaign': 'all', 'fct_sales': 'all'}},
    )
}}

with

campaigns as (

    select
        campaign_id,
        start_date,
        end_date,
        end_date - start_date + 1 as day_count
    from {{ ref('dim_campaign') }}

),

known as (

    select
        min(business_date) as first_date,
        max(business_date) as last_date
    from {{ ref('fct_sales') }}

),

windows as (

    select
        campaigns.campaign_id,
        comparisons.comparison,
        campaigns.start_date - comparisons.shift * campaigns.day_count as window_start_date,
        campaigns.end_date - comparisons.shift * campaigns.day_count as window_end_date,
        campaigns.start_date - (comparisons.shift + 1) * campaigns.day_count as before_start_date
    from campaigns
    cross join (values ('campaign', 0), ('placebo', 1)) as comparisons (comparison, shift)

)

select
    windows.campaign_id,
    windows.comparison,
    windows.window_start_date,
    windows.window_end_date,
    windows.before_start_date,
    coalesce(windows.window_start_date >= known.first_date and windows.window_end_date <= known.last_date, false)
        as is_window_covered,
    coalesce(windows.before_start_date >= known.first_date and windows.window_start_date <= known.last_date + 1, false)
        as is_before_covered,
    coalesce(greatest(windows.before_start_date - known.first_date, 0), 0) as earlier_day_count
from windows
cross join known
