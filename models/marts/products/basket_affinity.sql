{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={
            'changed_by': {
                'int_products__category_pair_totals': 'all',
                'int_products__categories': 'all',
                'daily_sales': 'all',
            },
            'depends_on_vars': ['affinity_min_support'],
        },
    )
}}

with

pairs as (

    select * from {{ ref('int_products__category_pair_totals') }}

),

totals as (

    select
        sum(basket_count) as basket_count,
        {{ var('affinity_min_support') }} * sum(basket_count) as min_count
    from {{ ref('daily_sales') }}

),

names as (

    select distinct -- every product of a category names it
        hashtextextended(product_category, 0) as category_id,
        product_category as category
    from {{ ref('int_products__categories') }}
    where is_categorised

),

categories as (

    select
        names.category,
        pairs.category_a_id as category_id,
        pairs.basket_count
    from pairs
    inner join names on pairs.category_a_id = names.category_id
    where pairs.category_a_id = pairs.category_b_id

),

-- Both ways round: their numbers are in another order than their names, by which one of them stays.
frequent as (

    select
        sides.category_a_id,
        sides.category_b_id,
        pairs.basket_count
    from pairs
    cross join
        lateral (
            values (pairs.category_a_id, pairs.category_b_id), (pairs.category_b_id, pairs.category_a_id)
        ) as sides (category_a_id, category_b_id)
    where pairs.category_a_id <> pairs.category_b_id and pairs.basket_count >= (select totals.min_count from totals)

)

select
    a.category as category_a,
    b.category as category_b,
    cast(totals.basket_count as integer) as basket_count,
    a.basket_count as category_a_basket_count,
    b.basket_count as category_b_basket_count,
    frequent.basket_count as both_basket_count,
    cast(cast(frequent.basket_count as numeric) / totals.basket_count as numeric(9, 6)) as support,
    cast(cast(frequent.basket_count as numeric) / a.basket_count as numeric(9, 6)) as confidence_a_to_b,
    cast(cast(frequent.basket_count as numeric) / b.basket_count as numeric(9, 6)) as confidence_b_to_a,
    cast(
        cast(frequent.basket_count as numeric) * totals.basket_count / (cast(a.basket_count as bigint) * b.basket_count)
        as numeric(12, 4)
    ) as lift
from frequent
inner join categories as a on frequent.category_a_id = a.category_id
inner join categories as b on frequent.category_b_id = b.category_id
cross join totals
where a.category < b.category
