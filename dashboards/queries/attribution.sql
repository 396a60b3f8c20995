-- Type of campaign and outcome: could redemptions be traced to a line of a receipt?
select
    campaigns.campaign_type,
    attribution.attribution,
    count(*) as redemptions,
    count(*) filter (where attribution.is_traced) as traced
from marts.redemption_attribution as attribution
inner join marts.dim_campaign as campaigns on attribution.campaign_id = campaigns.campaign_id
group by campaigns.campaign_type, attribution.attribution
order by campaigns.campaign_type, attribution.attribution
