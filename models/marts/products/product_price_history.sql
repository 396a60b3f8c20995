{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': ['product_id', 'week'], 'changed_by': {'int_products__price_weeks': "
            select product_id, week from changes
            union
            select changes.product_id, neighbours.week
            from changes
            cross join lateral (
                (
                    select weeks.week from {int_products__price_weeks} as weeks
                    where weeks.product_id = changes.product_id and weeks.week < changes.week
                    order by weeks.week desc limit 1
                )
                union all
                (
                    select weeks.week from {int_products__price_weeks} as weeks
                    where weeks.product_id = changes.product_id and weeks.week > changes.week
                    order by weeks.week asc limit 1
                )
            ) as neighbours
        "}},
    )
}}

with

-- Looked up, and so not written down.
weeks as not materialized (

    select * from {{ ref('int_products__price_weeks') }}

)

select
    priced.product_id,
    priced.week,
    priced.first_sold_date,
    priced.last_sold_date,
    priced.line_count,
    priced.coupon_line_count,
    priced.item_count,
    priced.sales_value,
    priced.regular_price,
    priced.loyalty_price,
    priced.coupon_price,
    cast(priced.regular_price - previous.regular_price as numeric(12, 2)) as regular_price_change,
    later.week as next_week
from weeks as priced
-- Looked up in the index: a few weeks of a product cost as much, however many it has.
left join lateral (
    select weeks.regular_price
    from weeks
    where weeks.product_id = priced.product_id and weeks.week < priced.week
    order by weeks.week desc
    limit 1
) as previous on true
left join lateral (
    select weeks.week
    from weeks
    where weeks.product_id = priced.product_id and weeks.week > priced.week
    order by weeks.week asc
    limit 1
) as later on true
where {{ granary.in_partitions('priced.product_id, priced.week') }}
