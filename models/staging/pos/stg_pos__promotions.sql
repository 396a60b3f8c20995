with

source as (

    select * from {{ source('pos', 'promotions') }}

)

select
    product_id,
    store_id,
    cast(week as integer) as week,
    display_location,
    mailer_location,
    _load_id as load_id,
    _row as load_row
from source
