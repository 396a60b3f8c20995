{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': 'product_id', 'changed_by': {
            'int_products__weeks': "select product_id from changes group by product_id, week having sum(sign) <> 0",
            'int_products__stores': "select product_id from changes group by product_id, store_id having sum(sign) <> 0",
            'int_promotions__product_weeks': 'product_id',
            'int_promotions__reported': "
                select distinct sellers.product_id
                from (select store_id from changes group by store_id, week having sum(sign) <> 0) as stores
                inner join {int_products__stores} as sellers using (store_id)
            ",
        }},
    )
}}

with

sold as (

    select
        product_id,
        min(week) as first_week,
        max(week) as last_week
    from {{ ref('int_products__weeks') }}
    where {{ granary.in_partitions() }}
    group by product_id

),

promoted as (

    select
        product_id,
        min(week) as first_week,
        max(week) as last_week,
        sum(placement_count) as store_weeks
    from {{ ref('int_promotions__product_weeks') }}
    where {{ granary.in_partitions() }}
    group by product_id

),

products as (

    select
        sold.product_id,
        least(sold.first_week, promoted.first_week) as first_week,
        greatest(sold.last_week, promoted.last_week) as last_week,
        coalesce(promoted.store_weeks, 0) as on_store_weeks
    from sold
    left join promoted on sold.product_id = promoted.product_id

),

sellers as (

    select * from {{ ref('int_products__stores') }}
    where {{ granary.in_partitions() }}

),

stores as (

    select
        store_id,
        array_agg(week order by week) as weeks
    from {{ ref('int_promotions__reported') }}
    group by store_id

)

-- width_bucket(week, weeks) is how many of the ascending weeks lie up to that week.
select
    products.product_id,
    products.first_week,
    products.last_week,
    cast(products.on_store_weeks as integer) as on_store_weeks,
    cast(coalesce(
        sum(width_bucket(products.last_week, stores.weeks) - width_bucket(products.first_week - 1, stores.weeks)), 0
    ) as integer) as store_weeks
from products
inner join sellers on products.product_id = sellers.product_id
left join stores on sellers.store_id = stores.store_id
group by products.product_id, products.first_week, products.last_week, products.on_store_weeks
