with

snapshot as (

    select * from {{ ref('snap_crm__households') }}

),

numbered as (

    select
        household_id,
        age_range,
        income_range,
        home_ownership,
        marital_status,
        household_size,
        household_composition,
        kids_count,
        load_id,
        dbt_valid_from,
        dbt_valid_to,
        row_number() over (partition by household_id order by dbt_valid_from) as version_number
    from snapshot

)

select
    household_id,
    age_range,
    income_range,
    home_ownership,
    marital_status,
    household_size,
    household_composition,
    kids_count,
    -- The first version counts from the beginning of time, so what happened before it was recorded finds it too.
    case
        when version_number = 1 then timestamptz '1900-01-01 00:00:00+00'
        else dbt_valid_from
    end as valid_from,
    coalesce(dbt_valid_to, timestamptz '9999-12-31 00:00:00+00') as valid_to,
    dbt_valid_to is null as is_current,
    cast(version_number as integer) as version_number,
    load_id
from numbered
