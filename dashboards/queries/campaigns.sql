-- Campaign: reach, redemptions, and the effect on the contacted households where it can be known.
select
    cast(campaign_id as text) as campaign,
    campaign_type,
    to_char(start_date, 'YYYY-MM-DD') as start_date,
    to_char(end_date, 'YYYY-MM-DD') as end_date,
    1 as campaigns,
    contacted_household_count as contacts,
    redeeming_household_count as redeeming,
    redemption_rate,
    redemption_count as redemptions,
    coupon_count as coupons,
    product_count as products,
    window_sales_value as campaign_sales,
    before_sales_value as sales_before,
    effect,
    effect_low,
    effect_high,
    is_small_sample,
    cast(effect is not null as integer) as judged,
    cast(coalesce(effect_low > 0 or effect_high < 0, false) as integer) as clear_of_zero,
    case
        when not is_window_covered or not is_before_covered then 'windows outside the data'
        when effect is null then 'too few earlier days to match'
        when is_small_sample then 'few households: interval too narrow'
        when effect_low > 0 then 'clearly above zero'
        when effect_high < 0 then 'clearly below zero'
        else 'not different from zero'
    end as finding
from marts.campaign_performance
order by campaign_id
