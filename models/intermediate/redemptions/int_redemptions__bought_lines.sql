-- One pass over the sales: looked up by day, each redemption reads 4,200 lines to find 34 (4 s instead of 1 s).
{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        unique_key=['redemption_id', 'basket_id', 'product_id'],
        pre_hook='set local enable_nestloop = off',
        meta={
            'partition_by': 'business_date',
            'changed_by': {
                'fct_coupon_redemptions': 'business_date',
                'fct_sales': "
                    select business_date from changes
                    intersect
                    select business_date from {fct_coupon_redemptions}
                ",
                'int_coupons__covered_products': "
                    select distinct redemptions.business_date
                    from changes
                    inner join {fct_coupon_redemptions} as redemptions using (campaign_id, coupon_upc)
                ",
            },
        },
    )
}}

with

redemptions as (

    select * from {{ ref('fct_coupon_redemptions') }}
    where {{ granary.in_partitions() }}

),

sales as (

    select * from {{ ref('fct_sales') }}
    where {{ granary.in_partitions() }}

),

covered as (

    select * from {{ ref('int_coupons__covered_products') }}

),

bought as (

    select
        redemptions.redemption_id,
        redemptions.business_date,
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
    business_date,
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
