{{ config(materialized='incremental', incremental_strategy='overwrite_partitions') }}

with

versions as (

    select * from {{ ref('int_crm__household_versions') }}

),

-- Households that shop and that the CRM does not know yet; a replaced load no longer counts.
unknown as (

    select distinct members.entity_id as household_id -- a household may be in many loads
    from {{ ref('int_sales__unknown_members') }} as members
    inner join {{ source('ops', 'load_audit') }} as loads
        on members.load_id = loads.load_id and loads.superseded_by is null
    left join versions on members.entity_id = versions.household_id
    where members.entity = 'household' and versions.household_id is null

),

members as (

    select
        household_id,
        age_range,
        income_range,
        home_ownership,
        marital_status,
        household_size,
        household_composition,
        kids_count,
        valid_from,
        valid_to,
        is_current,
        false as is_inferred,
        load_id
    from versions

    union all

    select
        household_id,
        null as age_range,
        null as income_range,
        null as home_ownership,
        null as marital_status,
        null as household_size,
        null as household_composition,
        null as kids_count,
        timestamptz '1900-01-01 00:00:00+00' as valid_from,
        timestamptz '9999-12-31 00:00:00+00' as valid_to,
        true as is_current,
        true as is_inferred,
        null as load_id
    from unknown

)

select
    {{ dbt_utils.generate_surrogate_key(['household_id', 'extract(epoch from valid_from)']) }} as household_key,
    household_id,
    age_range,
    income_range,
    home_ownership,
    marital_status,
    household_size,
    household_composition,
    kids_count,
    age_range is not null as has_demographics,
    valid_from,
    valid_to,
    is_current,
    is_inferred,
    load_id
from members
