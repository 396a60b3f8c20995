{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': ['week', 'product_id', 'store_id'], 'changed_by': {
            'fct_promotions': "
                select changes.week, changes.product_id, changes.store_id
                from changes
                inner join {int_products__stores} as sellers using (product_id, store_id)
            ",
            'int_products__stores': "
                with pairs as (
                    select product_id, store_id, sum(sign) as sign
                    from changes
                    group by product_id, store_id
                    having sum(sign) <> 0
                )
                select placements.week, placements.product_id, placements.store_id
                from pairs
                cross join (select distinct week from {int_promotions__changed_weeks}) as weeks
                inner join {fct_promotions} as placements using (week, product_id, store_id)
                where pairs.sign > 0
                union all
                select placements.week, placements.product_id, placements.store_id
                from pairs
                inner join {int_promotions__sold_placements} as placements using (product_id, store_id)
                where pairs.sign < 0
            ",
            'int_promotions__changed_weeks': 'never',
        }},
        pre_hook="set local enable_mergejoin = off",
    )
}}

-- Which of the 20.9 M placements could have moved a sale: those of products in stores that sell them. In full that is
-- one pass over fct_promotions; sorting it for a merge join, which the planner may prefer, takes minutes instead of
-- 10 s.
with

placements as (

    select * from {{ ref('fct_promotions') }}

),

sellers as (

    select * from {{ ref('int_products__stores') }}

)

-- The weeks are those of {{ ref('int_promotions__changed_weeks') }}.
select
    placements.product_id,
    placements.store_id,
    placements.week,
    placements.display_location,
    placements.mailer_location
from placements
inner join sellers on placements.product_id = sellers.product_id and placements.store_id = sellers.store_id
where {{ granary.in_partitions('placements.week, placements.product_id, placements.store_id') }}
