{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': 'week', 'changed_by': {
            'fct_sales': 'week',
            'fct_promotions': 'week',
            'int_promotions__reported': "
                select week from changes
                group by store_id, week
                having sum(sign) <> 0
            ",
            'int_promotions__sold_placements': 'never',
        }},
        pre_hook="set local enable_mergejoin = off",
    )
}}

-- A line meets at most one placement, because fct_promotions, and so what is taken from it, has a unique key. In full,
-- a hash join takes 4 s; the merge join that the planner prefers sorts both sides for 12 s. Placements need not be
-- followed: those of a pair of product and store that is new, or no more, only meet lines of weeks that changed.
with

sales as (

    select * from {{ ref('fct_sales') }}
    where {{ granary.in_partitions() }}

),

placements as (

    select * from {{ ref('int_promotions__sold_placements') }}
    where {{ granary.in_partitions() }}

),

reported as (

    select * from {{ ref('int_promotions__reported') }}
    where {{ granary.in_partitions() }}

)

-- What fct_promotions has is in the placements: {{ ref('fct_promotions') }}.
select
    sales.basket_id,
    sales.product_id,
    sales.product_key,
    sales.store_id,
    sales.week,
    case when reported.week is null then 'unknown' else coalesce(placements.display_location, '0') end
        as display_location,
    case when reported.week is null then 'unknown' else coalesce(placements.mailer_location, '0') end
        as mailer_location,
    case when reported.week is null then 'unknown' when placements.week is null then 'off' else 'on' end as promotion,
    case when sales.is_fuel then 0 else sales.quantity end as item_count,
    sales.sales_value,
    sales.regular_value,
    sales.retail_disc
from sales
left join reported on sales.store_id = reported.store_id and sales.week = reported.week
left join placements
    on
        sales.product_id = placements.product_id
        and sales.store_id = placements.store_id
        and sales.week = placements.week
