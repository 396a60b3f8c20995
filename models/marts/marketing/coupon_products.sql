{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={
            'partition_by': ['campaign_id', 'coupon_upc'],
            'changed_by': {
                'int_coupons__covered_products': 'campaign_id, coupon_upc',
                'redemption_attribution': 'campaign_id, coupon_upc',
            },
        },
    )
}}

with

covered as (

    select * from {{ ref('int_coupons__covered_products') }}
    where {{ granary.in_partitions() }}

),

traced as (

    select
        campaign_id,
        coupon_upc,
        product_id,
        count(*) as redemption_count,
        sum(sales_value) as sales_value
    from {{ ref('redemption_attribution') }}
    where {{ granary.in_partitions() }} and is_traced
    group by campaign_id, coupon_upc, product_id

)

select
    covered.campaign_id,
    covered.coupon_upc,
    covered.product_id,
    cast(coalesce(traced.redemption_count, 0) as integer) as traced_redemption_count,
    cast(coalesce(traced.sales_value, 0) as numeric(12, 2)) as traced_sales_value
from covered
left join traced
    on
        covered.campaign_id = traced.campaign_id
        and covered.coupon_upc = traced.coupon_upc
        and covered.product_id = traced.product_id
