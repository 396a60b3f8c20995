{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={
            'partition_by': 'campaign_id',
            'changed_by': {
                'dim_campaign': 'campaign_id',
                'int_campaigns__windows': 'campaign_id',
                'int_campaigns__effects': 'campaign_id',
                'int_campaigns__household_sales': 'campaign_id',
                'int_coupons__covered_products': 'campaign_id',
                'redemption_attribution': 'campaign_id',
            },
        },
    )
}}

with

campaigns as (

    select * from {{ ref('dim_campaign') }}
    where {{ granary.in_partitions() }}

),

windows as (

    select * from {{ ref('int_campaigns__windows') }}
    where {{ granary.in_partitions() }} and comparison = 'campaign'

),

effects as (

    select * from {{ ref('int_campaigns__effects') }}
    where {{ granary.in_partitions() }} and comparison = 'campaign' and controls = 'all'

),

cleaned as (

    select * from {{ ref('int_campaigns__effects') }}
    where {{ granary.in_partitions() }} and comparison = 'campaign' and controls = 'clean'

),

placebos as (

    select * from {{ ref('int_campaigns__effects') }}
    where {{ granary.in_partitions() }} and comparison = 'placebo' and controls = 'all'

),

contacted as (

    select
        campaign_id,
        count(*) as household_count,
        sum(window_sales_value) as window_sales_value,
        sum(before_sales_value) as before_sales_value
    from {{ ref('int_campaigns__household_sales') }}
    where {{ granary.in_partitions() }} and is_contacted and comparison = 'campaign'
    group by campaign_id

),

offered as (

    select
        campaign_id,
        count(distinct coupon_upc) as coupon_count,
        count(distinct product_id) as product_count
    from {{ ref('int_coupons__covered_products') }}
    where {{ granary.in_partitions() }}
    group by campaign_id

),

redeemed as (

    select
        campaign_id,
        count(*) as redemption_count,
        count(distinct household_id) as household_count,
        count(distinct household_id) filter (where is_contacted) as contacted_household_count
    from {{ ref('redemption_attribution') }}
    where {{ granary.in_partitions() }}
    group by campaign_id

)

select
    campaigns.campaign_id,
    campaigns.campaign_type,
    campaigns.start_date,
    campaigns.end_date,
    windows.before_start_date,
    windows.is_window_covered,
    windows.is_before_covered,
    windows.earlier_day_count,
    cast(coalesce(contacted.household_count, 0) as integer) as contacted_household_count,
    cast(coalesce(redeemed.household_count, 0) as integer) as redeeming_household_count,
    cast(
        coalesce(redeemed.contacted_household_count, 0) / cast(contacted.household_count as numeric) as numeric(9, 6)
    ) as redemption_rate,
    cast(coalesce(redeemed.redemption_count, 0) as integer) as redemption_count,
    cast(coalesce(offered.coupon_count, 0) as integer) as coupon_count,
    cast(coalesce(offered.product_count, 0) as integer) as product_count,
    cast(contacted.window_sales_value as numeric(12, 2)) as window_sales_value,
    cast(contacted.before_sales_value as numeric(12, 2)) as before_sales_value,
    cast(contacted.window_sales_value - contacted.before_sales_value as numeric(12, 2)) as sales_change,
    cast(
        contacted.window_sales_value / nullif(contacted.before_sales_value, 0) - 1 as numeric(12, 6)
    ) as sales_change_rate,
    cast(effects.matched_household_count as integer) as matched_household_count,
    cast(contacted.household_count - effects.matched_household_count as integer) as unmatched_household_count,
    cast(effects.control_household_count as integer) as control_household_count,
    effects.matched_elsewhere_share,
    effects.control_elsewhere_share,
    cast(effects.matched_before as numeric(12, 2)) as matched_before,
    cast(effects.control_before as numeric(12, 2)) as control_before,
    cast(effects.matched_change as numeric(12, 2)) as matched_change,
    cast(effects.control_change as numeric(12, 2)) as control_change,
    cast(effects.effect as numeric(12, 2)) as effect,
    cast(effects.effect_std_error as numeric(12, 2)) as effect_std_error,
    cast(effects.effect - 1.96 * effects.effect_std_error as numeric(12, 2)) as effect_low,
    cast(effects.effect + 1.96 * effects.effect_std_error as numeric(12, 2)) as effect_high,
    effects.matched_household_count < 30 as is_small_sample,
    cast(placebos.effect as numeric(12, 2)) as placebo_effect,
    cast(placebos.effect_std_error as numeric(12, 2)) as placebo_std_error,
    cast(cleaned.control_household_count as integer) as clean_control_household_count,
    cast(cleaned.effect as numeric(12, 2)) as clean_effect,
    cast(cleaned.effect - 1.96 * cleaned.effect_std_error as numeric(12, 2)) as clean_effect_low,
    cast(cleaned.effect + 1.96 * cleaned.effect_std_error as numeric(12, 2)) as clean_effect_high
from campaigns
inner join windows on campaigns.campaign_id = windows.campaign_id
left join contacted on campaigns.campaign_id = contacted.campaign_id
left join effects on campaigns.campaign_id = effects.campaign_id
left join cleaned on campaigns.campaign_id = cleaned.campaign_id
left join placebos on campaigns.campaign_id = placebos.campaign_id
left join offered on campaigns.campaign_id = offered.campaign_id
left join redeemed on campaigns.campaign_id = redeemed.campaign_id
