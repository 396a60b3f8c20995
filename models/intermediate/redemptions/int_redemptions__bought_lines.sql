-- One pass over the sales: looked up by day, each redemption reads 4,200 lines to find 34 (4 s instead of 1 s).
{{ config(materialized='table', pre_hook="set local enable_nestloop = off") }}

with

redemptions as (

    select * from {{ ref('fct_coupon_redemptions') }}

),

sales as (

    select * from {{ ref('fct_sales') }}

),

covered as (

    select * from {{ ref('int_coupons__covered_products') }}

),

bought as (

    select
        redemptions.redemption_id,
        sales.basket_id,
        sales.product_id,
        sales.sold_at,
        sales.sales_value,
        sales.coupon_disc,
        sales.coupon_match_disc,
        covered.product_id is not null as is_covered,
        covered.product_id is not null and sales.coupon_disc > 0 as is_candidate
    from redemptions
    inner join sales
        on redemptions.household_id = sales.household_id and redemptions.business_date = sales.business_date
    left join covered
        on
            redemptions.campaign_id = covered.campaign_id
            and redemptions.coupon_upc = covered.coupon_upc
            and sales.product_id = covered.product_id

)

select
    redemption_id,
    basket_id,
    product_id,
    sales_value,
    coupon_disc,
    coupon_match_disc,
    is_covered,
    is_candidate,
    row_number() over (
        partition by redemption_id
        order by is_candidate desc, coupon_disc desc, sold_at asc, basket_id asc, product_id asc
    ) as preference
from bought
