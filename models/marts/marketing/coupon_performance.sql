{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={
            'partition_by': ['campaign_id', 'coupon_upc'],
            'changed_by': {
                'int_coupons__covered_products': 'campaign_id, coupon_upc',
                'redemption_attribution': 'campaign_id, coupon_upc',
                'fct_campaign_contacts': "
                    select campaign_id, coupon_upc
                    from {coupon_performance}
                    where campaign_id in (
                        select campaign_id from changes group by campaign_id, household_id having sum(sign) <> 0
                    )
                ",
            },
        },
    )
}}

with

covered as (

    select * from {{ ref('int_coupons__covered_products') }}
    where {{ granary.in_partitions() }}

),

contacts as (

    select * from {{ ref('fct_campaign_contacts') }}

),

redemptions as (

    select * from {{ ref('redemption_attribution') }}
    where {{ granary.in_partitions() }}

),

coupons as (

    select
        campaign_id,
        coupon_upc,
        count(*) as product_count
    from covered
    group by campaign_id, coupon_upc

),

contacted as (

    select
        campaign_id,
        count(*) as household_count
    from contacts
    group by campaign_id

),

redeemed as (

    select
        campaign_id,
        coupon_upc,
        count(*) as redemption_count,
        count(distinct household_id) as household_count,
        count(distinct household_id) filter (where is_contacted) as contacted_household_count,
        count(*) filter (where is_traced) as traced_count,
        min(business_date) as first_date,
        max(business_date) as last_date
    from redemptions
    group by campaign_id, coupon_upc

),

-- A receipt line to which several redemptions of a coupon lead counts once.
lines as (

    select distinct
        campaign_id,
        coupon_upc,
        basket_id,
        product_id,
        sales_value,
        coupon_disc
    from redemptions
    where is_traced

),

receipts as (

    select
        campaign_id,
        coupon_upc,
        sum(sales_value) as sales_value,
        sum(coupon_disc) as coupon_disc
    from lines
    group by campaign_id, coupon_upc

)

select
    campaign_id,
    coupon_upc,
    cast(coalesce(coupons.product_count, 0) as integer) as product_count,
    cast(coalesce(contacted.household_count, 0) as integer) as contacted_household_count,
    cast(coalesce(redeemed.redemption_count, 0) as integer) as redemption_count,
    cast(coalesce(redeemed.household_count, 0) as integer) as redeeming_household_count,
    cast(
        cast(coalesce(redeemed.contacted_household_count, 0) as numeric) / contacted.household_count as numeric(9, 6)
    ) as redemption_rate,
    redeemed.first_date as first_redemption_date,
    redeemed.last_date as last_redemption_date,
    cast(coalesce(redeemed.traced_count, 0) as integer) as traced_redemption_count,
    cast(coalesce(receipts.sales_value, 0) as numeric(12, 2)) as traced_sales_value,
    cast(coalesce(receipts.coupon_disc, 0) as numeric(12, 2)) as traced_coupon_disc
from coupons
full outer join redeemed using (campaign_id, coupon_upc)
left join receipts using (campaign_id, coupon_upc)
left join contacted using (campaign_id)
