{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={
            'partition_by': 'campaign_id',
            'changed_by': {
                'int_campaigns__windows': 'campaign_id',
                'fct_campaign_contacts': 'campaign_id',
                'fct_coupon_redemptions': 'campaign_id',
                'fct_baskets': "
                    select windows.campaign_id
                    from {int_campaigns__windows} as windows
                    inner join (select distinct business_date from changes) as baskets
                        on baskets.business_date between windows.before_start_date and windows.window_end_date
                    where windows.comparison = 'campaign'
                ",
            },
        },
    )
}}

with

contacts as (

    select
        contacts.campaign_id,
        contacts.household_id,
        contacts.household_key,
        contacts.start_date,
        contacts.end_date,
        windows.before_start_date,
        windows.is_window_covered and windows.is_before_covered as is_measurable
    from {{ ref('fct_campaign_contacts') }} as contacts
    inner join {{ ref('int_campaigns__windows') }} as windows on contacts.campaign_id = windows.campaign_id
    where {{ granary.in_partitions('contacts.campaign_id') }} and windows.comparison = 'campaign'

),

baskets as (

    select * from {{ ref('fct_baskets') }}

),

redemptions as (

    select
        campaign_id,
        household_id,
        count(*) as redemption_count
    from {{ ref('fct_coupon_redemptions') }}
    where {{ granary.in_partitions() }}
    group by campaign_id, household_id

),

sales as (

    select
        contacts.campaign_id,
        contacts.household_id,
        sum(baskets.sales_value) filter (where baskets.business_date >= contacts.start_date) as sales_in_window,
        sum(baskets.sales_value) filter (where baskets.business_date < contacts.start_date) as sales_before
    from contacts
    inner join baskets
        on
            contacts.household_id = baskets.household_id
            and baskets.business_date between contacts.before_start_date and contacts.end_date
    group by contacts.campaign_id, contacts.household_id

)

select
    contacts.campaign_id,
    contacts.household_id,
    contacts.household_key,
    contacts.start_date,
    contacts.is_measurable,
    redemptions.household_id is not null as has_redeemed,
    cast(coalesce(redemptions.redemption_count, 0) as integer) as redemption_count,
    cast(coalesce(sales.sales_in_window, 0) as numeric(12, 2)) as sales_in_window,
    cast(coalesce(sales.sales_before, 0) as numeric(12, 2)) as sales_before
from contacts
left join redemptions
    on contacts.campaign_id = redemptions.campaign_id and contacts.household_id = redemptions.household_id
left join sales
    on contacts.campaign_id = sales.campaign_id and contacts.household_id = sales.household_id
