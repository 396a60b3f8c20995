{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'changed_by': {
            'daily_sales': 'all',
            'int_households__store_sales': 'all',
            'dim_store': 'all',
        }},
    )
}}

with

stores as (

    select * from {{ ref('dim_store') }}

),

days as (

    select * from {{ ref('daily_sales') }}

),

customers as (

    select
        store_id,
        count(*) as household_count
    from {{ ref('int_households__store_sales') }}
    group by store_id

),

span as (

    select
        min(business_date) as first_date,
        max(business_date) as last_date
    from days

),

totals as (

    select
        days.store_id,
        min(days.business_date) as first_sale_date,
        max(days.business_date) as last_sale_date,
        count(*) as days_with_sales,
        sum(days.basket_count) as basket_count,
        sum(days.line_count) as line_count,
        sum(days.item_count) as item_count,
        sum(days.sales_value) as sales_value,
        sum(days.discount_value) as discount_value,
        sum(days.sales_value) filter (where days.business_date > span.last_date - 28) as recent_value,
        sum(days.sales_value) filter (
            where days.business_date > span.last_date - 56 and days.business_date <= span.last_date - 28
        ) as earlier_value
    from days
    cross join span
    group by days.store_id

),

compared as (

    select
        stores.store_id,
        totals.first_sale_date,
        totals.last_sale_date,
        coalesce(totals.days_with_sales, 0) as days_with_sales,
        coalesce(totals.basket_count, 0) as basket_count,
        coalesce(customers.household_count, 0) as household_count,
        coalesce(totals.line_count, 0) as line_count,
        coalesce(totals.item_count, 0) as item_count,
        coalesce(totals.sales_value, 0) as sales_value,
        coalesce(totals.discount_value, 0) as discount_value,
        case when span.last_date - span.first_date >= 27 then coalesce(totals.recent_value, 0) end as recent_value,
        case when span.last_date - span.first_date >= 55 then coalesce(totals.earlier_value, 0) end as earlier_value
    from stores
    cross join span
    left join totals on stores.store_id = totals.store_id
    left join customers on stores.store_id = customers.store_id

)

select
    store_id,
    first_sale_date,
    last_sale_date,
    cast(days_with_sales as integer) as days_with_sales,
    cast(basket_count as integer) as basket_count,
    cast(household_count as integer) as household_count,
    cast(line_count as integer) as line_count,
    cast(item_count as integer) as item_count,
    cast(sales_value as numeric(12, 2)) as sales_value,
    cast(discount_value as numeric(12, 2)) as discount_value,
    cast(sales_value / nullif(basket_count, 0) as numeric(12, 2)) as sales_per_basket,
    cast(sales_value / nullif(sum(sales_value) over (), 0) as numeric(9, 6)) as sales_share,
    cast(row_number() over (order by sales_value desc, store_id asc) as integer) as sales_rank,
    cast(recent_value as numeric(12, 2)) as sales_last_28d,
    cast(earlier_value as numeric(12, 2)) as sales_previous_28d,
    cast(recent_value - earlier_value as numeric(12, 2)) as sales_change,
    cast(recent_value / nullif(earlier_value, 0) - 1 as numeric(9, 4)) as sales_change_rate
from compared
