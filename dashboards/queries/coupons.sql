-- Coupons in campaigns that were redeemed three times or more.
select
    campaigns.campaign_type,
    coupons.coupon_upc || ' in ' || coupons.campaign_id as coupon,
    coupons.redemption_count as redemptions,
    coupons.redeeming_household_count as households,
    coupons.redemption_rate,
    coupons.product_count as products
from marts.coupon_performance as coupons
inner join marts.dim_campaign as campaigns on coupons.campaign_id = campaigns.campaign_id
where coupons.redemption_count >= 3
order by coupons.redemption_count desc, coupons.coupon_upc asc
