with

source as (

    select * from {{ source('pos', 'transactions') }}

),

renamed as (

    select
        basket_id,
        product_id,
        household_id,
        store_id,
        cast(week as integer) as week,
        transaction_timestamp at time zone 'UTC' as sold_at,
        cast(
            transaction_timestamp at time zone 'UTC' at time zone '{{ var("time_zone") }}' as date
        ) as business_date,
        cast(quantity as integer) as quantity,
        cast(sales_value as numeric(12, 2)) as sales_value,
        cast(retail_disc as numeric(12, 2)) as retail_disc,
        cast(coupon_disc as numeric(12, 2)) as coupon_disc,
        cast(coupon_match_disc as numeric(12, 2)) as coupon_match_disc,
        _load_id as load_id,
        _row as load_row
    from source

)

select
    basket_id,
    product_id,
    household_id,
    store_id,
    week,
    sold_at,
    business_date,
    quantity,
    sales_value,
    retail_disc,
    coupon_disc,
    coupon_match_disc,
    load_id,
    load_row
from renamed
