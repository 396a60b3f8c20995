with

source as (

    select * from {{ source('marketing', 'campaigns') }}

)

select
    campaign_id,
    campaign_type,
    start_date,
    end_date,
    updated_at,
    _load_id as load_id,
    _row as load_row
from source
