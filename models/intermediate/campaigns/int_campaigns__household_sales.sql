-- On each day of a window that is not over yet, what it is compared with stays as it is.
{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={
            'partition_by': 'campaign_id',
            'depends_on_vars': ['campaign_matching_days'],
            'changed_by': {
                'int_campaigns__windows': 'campaign_id',
                'fct_campaign_contacts': "
                    select windows.campaign_id
                    from {int_campaigns__windows} as windows
                    inner join (
                        select campaign_id, start_date, end_date
                        from changes
                        group by campaign_id, household_id, start_date, end_date
                        having sum(sign) <> 0
                    ) as contacts
                        on
                            windows.campaign_id = contacts.campaign_id
                            or windows.before_start_date <= contacts.end_date
                            and windows.window_end_date >= contacts.start_date
                ",
                'dim_household': "
                    select campaign_id
                    from {int_campaigns__windows}
                    where exists (
                        select from changes where is_current group by household_id having sum(sign) <> 0
                    )
                ",
                'fct_baskets': "
                    select windows.campaign_id
                    from {int_campaigns__windows} as windows
                    inner join (select min(business_date) as first_date from changes) as baskets
                        on
                            windows.is_before_covered and windows.window_start_date > baskets.first_date
                            or windows.is_window_covered and windows.window_end_date >= baskets.first_date
                ",
            },
        },
    )
}}

with

windows as (

    select * from {{ ref('int_campaigns__windows') }}
    where
        {{ granary.in_partitions() }}
        and (comparison = 'campaign' or earlier_day_count >= {{ var('campaign_matching_days') }})

),

households as (

    select * from {{ ref('dim_household') }}
    where is_current

),

contacts as (

    select * from {{ ref('fct_campaign_contacts') }}

),

elsewhere as (

    select distinct -- several other campaigns may have reached a household, in either of the windows compared
        windows.campaign_id,
        windows.comparison,
        contacts.household_id
    from windows
    inner join contacts
        on
            windows.campaign_id <> contacts.campaign_id
            and windows.before_start_date <= contacts.end_date
            and windows.window_end_date >= contacts.start_date

),

baskets as (

    select * from {{ ref('fct_baskets') }}

),

spent as (

    select
        windows.campaign_id,
        windows.comparison,
        baskets.household_id,
        sum(baskets.sales_value) filter (where baskets.business_date >= windows.window_start_date) as in_window,
        sum(baskets.sales_value) filter (
            where baskets.business_date between windows.before_start_date and windows.window_start_date - 1
        ) as before_window,
        sum(baskets.sales_value) filter (where baskets.business_date < windows.before_start_date) as earlier
    from windows
    inner join baskets on windows.window_end_date >= baskets.business_date
    where windows.is_window_covered or windows.is_before_covered
    group by windows.campaign_id, windows.comparison, baskets.household_id

)

select
    windows.campaign_id,
    windows.comparison,
    households.household_id,
    contacts.household_id is not null as is_contacted,
    elsewhere.household_id is not null as is_contacted_elsewhere,
    cast(
        case when windows.is_window_covered then coalesce(spent.in_window, 0) end as numeric(12, 2)
    ) as window_sales_value,
    cast(
        case when windows.is_before_covered then coalesce(spent.before_window, 0) end as numeric(12, 2)
    ) as before_sales_value,
    cast(
        case
            when windows.earlier_day_count >= {{ var('campaign_matching_days') }} then coalesce(spent.earlier, 0)
        end as numeric(12, 2)
    ) as earlier_sales_value
from windows
cross join households
left join contacts on windows.campaign_id = contacts.campaign_id and households.household_id = contacts.household_id
left join elsewhere
    on
        windows.campaign_id = elsewhere.campaign_id
        and windows.comparison = elsewhere.comparison
        and households.household_id = elsewhere.household_id
left join spent
    on
        windows.campaign_id = spent.campaign_id
        and windows.comparison = spent.comparison
        and households.household_id = spent.household_id
