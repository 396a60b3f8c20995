with

source as (

    select * from {{ source('crm', 'stores') }}

)

select
    store_id,
    updated_at,
    _load_id as load_id,
    _row as load_row
from source
