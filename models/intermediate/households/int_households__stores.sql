with

stores as (

    select * from {{ ref('int_households__store_sales') }}
    where basket_count > 0

)

select
    household_id,
    store_id,
    basket_count,
    sales_value,
    row_number() over (
        partition by household_id order by basket_count desc, sales_value desc, store_id asc
    ) as preference
from stores
