{{ config(meta={'dagster': {'ref': {'name': 'int_campaigns__contacts'}}}) }}

-- Every campaign: the baskets of its households in both windows add up to the contacts, to the cent; each contact
-- is there, and each redemption is of a contact.
with

campaigns as (

    select
        campaign_id,
        start_date,
        end_date,
        duration_days
    from {{ ref('dim_campaign') }}

),

contacts as (

    select
        campaign_id,
        count(*) as contact_count,
        sum(redemption_count) as redemption_count,
        sum(sales_in_window) as sales_in_window,
        sum(sales_before) as sales_before
    from {{ ref('int_campaigns__contacts') }}
    group by campaign_id

),

recipients as (

    select
        campaign_id,
        count(*) as contact_count
    from {{ ref('fct_campaign_contacts') }}
    group by campaign_id

),

redemptions as (

    select
        campaign_id,
        count(*) as redemption_count
    from {{ ref('fct_coupon_redemptions') }}
    group by campaign_id

),

days as (

    select
        household_id,
        business_date,
        sum(sales_value) as sales_value
    from {{ ref('fct_baskets') }}
    group by household_id, business_date

),

sales as (

    select
        campaigns.campaign_id,
        sum(days.sales_value) filter (where days.business_date >= campaigns.start_date) as sales_in_window,
        sum(days.sales_value) filter (where days.business_date < campaigns.start_date) as sales_before
    from campaigns
    inner join {{ ref('fct_campaign_contacts') }} as recipients on campaigns.campaign_id = recipients.campaign_id
    inner join days on recipients.household_id = days.household_id
    where days.business_date between campaigns.start_date - campaigns.duration_days and campaigns.end_date
    group by campaigns.campaign_id

)

select
    campaign_id,
    sales.sales_in_window as sold_in_window,
    contacts.sales_in_window,
    sales.sales_before as sold_before,
    contacts.sales_before
from recipients
full outer join contacts using (campaign_id)
left join redemptions using (campaign_id)
left join sales using (campaign_id)
where
    (
        recipients.contact_count, coalesce(redemptions.redemption_count, 0),
        coalesce(sales.sales_in_window, 0), coalesce(sales.sales_before, 0)
    )
    is distinct from
    (contacts.contact_count, contacts.redemption_count, contacts.sales_in_window, contacts.sales_before)
