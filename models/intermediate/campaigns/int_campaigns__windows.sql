with

campaigns as (

    select * from {{ ref('dim_campaign') }}

),

known as (

    select
        min(business_date) as first_date,
        max(business_date) as last_date
    from {{ ref('fct_sales') }}

)

select
    campaigns.campaign_id,
    campaigns.start_date,
    campaigns.end_date,
    campaigns.start_date - (campaigns.end_date - campaigns.start_date + 1) as before_start_date,
    coalesce(campaigns.start_date >= known.first_date and campaigns.end_date <= known.last_date, false)
        as is_window_covered,
    coalesce(
        campaigns.start_date - (campaigns.end_date - campaigns.start_date + 1) >= known.first_date
        and campaigns.start_date - 1 <= known.last_date, false
    ) as is_before_covered
from campaigns
cross join known
