{{ config(meta={'dagster': {'ref': {'name': 'campaign_performance'}}}) }}

-- Every campaign: contacts and redemptions are those of the facts, and the sales of its windows those of fct_baskets
-- on these days, where it has them.
with

campaigns as (

    select * from {{ ref('campaign_performance') }}

),

contacts as (

    select * from {{ ref('fct_campaign_contacts') }}

),

daily as (

    select
        household_id,
        business_date,
        sum(sales_value) as sales_value
    from {{ ref('fct_baskets') }}
    group by household_id, business_date

),

sales as (

    select
        campaigns.campaign_id,
        sum(daily.sales_value) filter (where daily.business_date >= campaigns.start_date) as in_window,
        sum(daily.sales_value) filter (where daily.business_date < campaigns.start_date) as before_window
    from campaigns
    inner join contacts on campaigns.campaign_id = contacts.campaign_id
    inner join daily
        on
            contacts.household_id = daily.household_id
            and daily.business_date between campaigns.before_start_date and campaigns.end_date
    group by campaigns.campaign_id

),

reached as (

    select
        campaign_id,
        count(*) as household_count
    from contacts
    group by campaign_id

),

redeemed as (

    select
        campaign_id,
        count(*) as redemption_count,
        count(distinct household_id) as household_count
    from {{ ref('fct_coupon_redemptions') }}
    group by campaign_id

)

select
    campaign_id,
    campaigns.window_sales_value,
    sales.in_window,
    campaigns.before_sales_value,
    sales.before_window
from campaigns
full outer join reached using (campaign_id)
full outer join redeemed using (campaign_id)
left join sales using (campaign_id)
where
    (
        campaigns.contacted_household_count, campaigns.redemption_count, campaigns.redeeming_household_count
    )
    is distinct from
    (
        coalesce(reached.household_count, 0), coalesce(redeemed.redemption_count, 0),
        coalesce(redeemed.household_count, 0)
    )
    or campaigns.window_sales_value <> coalesce(sales.in_window, 0)
    or campaigns.before_sales_value <> coalesce(sales.before_window, 0)
