with

source as (

    select * from {{ source('crm', 'households') }}

)

select
    household_id,
    age as age_range,
    income as income_range,
    home_ownership,
    marital_status,
    household_size,
    household_comp as household_composition,
    kids_count,
    updated_at,
    _load_id as load_id,
    _row as load_row
from source
