with

source as (

    select * from {{ source('marketing', 'coupons') }}

)

select
    campaign_id,
    coupon_upc,
    product_id,
    _load_id as load_id,
    _row as load_row
from source
