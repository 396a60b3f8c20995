{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={
            'partition_by': 'business_date',
            'changed_by': {
                'fct_coupon_redemptions': 'business_date',
                'int_redemptions__bought_lines': 'business_date',
                'fct_campaign_contacts': "
                    select distinct redemptions.business_date
                    from (
                        select campaign_id, household_id
                        from changes
                        group by campaign_id, household_id
                        having sum(sign) <> 0
                    ) as contacts
                    inner join {fct_coupon_redemptions} as redemptions using (campaign_id, household_id)
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

bought as (

    select * from {{ ref('int_redemptions__bought_lines') }}
    where {{ granary.in_partitions() }}

),

contacts as (

    select * from {{ ref('fct_campaign_contacts') }}

),

days as (

    select
        redemption_id,
        count(*) filter (where is_covered) as covered_line_count,
        count(*) filter (where is_candidate) as candidate_line_count
    from bought
    group by redemption_id

),

chosen as (

    select
        redemption_id,
        basket_id,
        product_id,
        sales_value,
        coupon_disc,
        coupon_match_disc,
        count(*) over (partition by basket_id, product_id) as line_redemption_count
    from bought
    where is_candidate and preference = 1

)

select
    redemptions.redemption_id,
    redemptions.household_id,
    redemptions.campaign_id,
    redemptions.coupon_upc,
    redemptions.business_date,
    case
        when days.redemption_id is null then 'no purchase that day'
        when days.covered_line_count = 0 then 'no covered product bought'
        when days.candidate_line_count = 0 then 'no coupon on covered product'
        when days.candidate_line_count = 1 then 'traced'
        else 'traced to best of several'
    end as attribution,
    chosen.redemption_id is not null as is_traced,
    contacts.household_id is not null as is_contacted,
    cast(coalesce(days.covered_line_count, 0) as integer) as covered_line_count,
    cast(coalesce(days.candidate_line_count, 0) as integer) as candidate_line_count,
    chosen.basket_id,
    chosen.product_id,
    chosen.sales_value,
    chosen.coupon_disc,
    chosen.coupon_match_disc,
    cast(chosen.line_redemption_count as integer) as line_redemption_count
from redemptions
left join days on redemptions.redemption_id = days.redemption_id
left join chosen on redemptions.redemption_id = chosen.redemption_id
left join contacts
    on redemptions.campaign_id = contacts.campaign_id and redemptions.household_id = contacts.household_id
