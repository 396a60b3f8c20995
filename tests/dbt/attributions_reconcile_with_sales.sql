{{ config(meta={'dagster': {'ref': {'name': 'redemption_attribution'}}}) }}

-- Every redemption is there once, and leads to a line of fct_sales with the same amounts, of the same household and day
-- and with a coupon, or to none.
with

attributions as (

    select * from {{ ref('redemption_attribution') }}

),

redemptions as (

    select * from {{ ref('fct_coupon_redemptions') }}

)

select
    redemption_id,
    attributions.basket_id,
    attributions.product_id
from attributions
full outer join redemptions using (redemption_id)
left join {{ ref('fct_sales') }} as sales
    on attributions.basket_id = sales.basket_id and attributions.product_id = sales.product_id
where
    (
        attributions.household_id, attributions.campaign_id, attributions.coupon_upc, attributions.business_date
    )
    is distinct from
    (redemptions.household_id, redemptions.campaign_id, redemptions.coupon_upc, redemptions.business_date)
    or (
        attributions.is_traced
        and (
            (
                attributions.household_id, attributions.business_date, attributions.sales_value,
                attributions.coupon_disc, attributions.coupon_match_disc
            )
            is distinct from
            (
                sales.household_id, sales.business_date, sales.sales_value,
                sales.coupon_disc, sales.coupon_match_disc
            )
            or sales.coupon_disc = 0
        )
    )
