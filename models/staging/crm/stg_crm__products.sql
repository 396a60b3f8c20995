with

source as (

    select * from {{ source('crm', 'products') }}

)

select
    product_id,
    manufacturer_id,
    department,
    brand,
    product_category,
    product_type,
    package_size,
    updated_at,
    _load_id as load_id,
    _row as load_row
from source
