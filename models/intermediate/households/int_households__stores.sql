with

baskets as (

    select * from {{ ref('fct_baskets') }}

),

reference_days as (

    select * from {{ ref('int_households__reference_days') }}
    where days_back = 0

),

stores as (

    select
        baskets.household_id,
        baskets.store_id,
        count(*) as basket_count,
        cast(sum(baskets.sales_value) as numeric(12, 2)) as sales_value
    from baskets
    inner join reference_days on baskets.business_date < reference_days.reference_date
    group by baskets.household_id, baskets.store_id

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
