{{ config(severity='warn', meta={'dagster': {'ref': {'name': 'fct_coupon_redemptions'}}}) }}

-- Worth a look, not worth stopping for: a coupon redeemed before or after its campaign. None in 2017.
select
    redemptions.redemption_id,
    redemptions.business_date,
    campaigns.start_date,
    campaigns.end_date
from {{ ref('fct_coupon_redemptions') }} as redemptions
inner join {{ ref('dim_campaign') }} as campaigns on redemptions.campaign_id = campaigns.campaign_id
where redemptions.business_date not between campaigns.start_date and campaigns.end_date
