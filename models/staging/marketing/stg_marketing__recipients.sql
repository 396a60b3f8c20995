with

source as (

    select * from {{ source('marketing', 'recipients') }}

)

select
    campaign_id,
    household_id,
    _load_id as load_id,
    _row as load_row
from source
