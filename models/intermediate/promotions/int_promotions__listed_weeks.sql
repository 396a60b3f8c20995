{{ config(materialized='table') }}

with

lines as not materialized (

    select * from {{ ref('int_promotions__sales_lines') }}

),

placements as not materialized (

    select * from {{ ref('int_promotions__sold_placements') }}

),

reported as (

    select distinct -- a store has many placements in a week
        store_id,
        week
    from placements

),

stores as (

    select
        store_id,
        array_agg(week order by week) as weeks
    from reported
    group by store_id

),

promoted as (

    select
        product_id,
        count(*) as store_weeks,
        min(week) as first_week,
        max(week) as last_week
    from placements
    group by product_id

),

sellers as (

    select
        product_id,
        store_id,
        min(week) as first_week,
        max(week) as last_week
    from lines
    group by product_id, store_id

),

products as (

    select
        sellers.product_id,
        least(min(sellers.first_week), min(promoted.first_week)) as first_week,
        greatest(max(sellers.last_week), max(promoted.last_week)) as last_week,
        coalesce(max(promoted.store_weeks), 0) as on_store_weeks
    from sellers
    left join promoted on sellers.product_id = promoted.product_id
    group by sellers.product_id

)

-- width_bucket(week, weeks) is how many of the ascending weeks lie up to that week.
select
    products.product_id,
    products.first_week,
    products.last_week,
    products.on_store_weeks,
    coalesce(
        sum(width_bucket(products.last_week, stores.weeks) - width_bucket(products.first_week - 1, stores.weeks)), 0
    ) as store_weeks
from products
inner join sellers on products.product_id = sellers.product_id
left join stores on sellers.store_id = stores.store_id
group by products.product_id, products.first_week, products.last_week, products.on_store_weeks
