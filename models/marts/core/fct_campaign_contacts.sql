{{ config(materialized='incremental', incremental_strategy='overwrite_partitions') }}

with

recipients as (

    select * from {{ ref('stg_marketing__recipients') }}

),

campaigns as (

    select * from {{ ref('dim_campaign') }}

),

households as (

    select * from {{ ref('dim_household') }}

),

contacts as (

    select
        recipients.campaign_id,
        recipients.household_id,
        campaigns.start_date,
        campaigns.end_date,
        cast(campaigns.start_date as timestamp) at time zone '{{ var("time_zone") }}' as contacted_at
    from recipients
    left join campaigns on recipients.campaign_id = campaigns.campaign_id

)

select
    contacts.campaign_id,
    contacts.household_id,
    contacts.start_date,
    contacts.end_date,
    households.household_key
from contacts
left join households
    on
        contacts.household_id = households.household_id
        and contacts.contacted_at >= households.valid_from
        and contacts.contacted_at < households.valid_to
