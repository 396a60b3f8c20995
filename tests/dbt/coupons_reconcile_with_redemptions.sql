{{ config(meta={'dagster': {'ref': {'name': 'coupon_performance'}}}) }}

-- Every campaign and coupon that the marketing system or a redemption knows is there, with all of its redemptions and
-- with what fct_sales has of the receipt lines that they lead to.
with

coupons as (

    select * from {{ ref('coupon_performance') }}

),

offered as (

    select
        campaign_id,
        coupon_upc,
        count(distinct product_id) as product_count
    from {{ ref('stg_marketing__coupons') }}
    group by campaign_id, coupon_upc

),

redeemed as (

    select
        campaign_id,
        coupon_upc,
        count(*) as redemption_count,
        count(distinct household_id) as household_count
    from {{ ref('fct_coupon_redemptions') }}
    group by campaign_id, coupon_upc

),

traced as (

    select distinct -- several redemptions can lead to a line
        campaign_id,
        coupon_upc,
        basket_id,
        product_id
    from {{ ref('redemption_attribution') }}
    where is_traced

),

receipts as (

    select
        traced.campaign_id,
        traced.coupon_upc,
        sum(sales.sales_value) as sales_value,
        sum(sales.coupon_disc) as coupon_disc
    from traced
    inner join {{ ref('fct_sales') }} as sales
        on traced.basket_id = sales.basket_id and traced.product_id = sales.product_id
    group by traced.campaign_id, traced.coupon_upc

)

select
    campaign_id,
    coupon_upc,
    coupons.redemption_count,
    redeemed.redemption_count as fact_count,
    coupons.traced_sales_value,
    receipts.sales_value
from coupons
full outer join offered using (campaign_id, coupon_upc)
full outer join redeemed using (campaign_id, coupon_upc)
full outer join receipts using (campaign_id, coupon_upc)
where
    (
        coupons.product_count, coupons.redemption_count, coupons.redeeming_household_count,
        coupons.traced_sales_value, coupons.traced_coupon_disc
    )
    is distinct from
    (
        coalesce(offered.product_count, 0), coalesce(redeemed.redemption_count, 0),
        coalesce(redeemed.household_count, 0), coalesce(receipts.sales_value, 0), coalesce(receipts.coupon_disc, 0)
    )
