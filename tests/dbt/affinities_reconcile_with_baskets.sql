{{ config(meta={'dagster': {'ref': {'name': 'basket_affinity'}}}) }}

-- Every pair of categories, counted again from fct_sales without leaving rare categories out first.
with

affinity as (

    select * from {{ ref('basket_affinity') }}

),

members as (

    select distinct -- a basket counts a category once
        sales.basket_id,
        products.product_category as category
    from {{ ref('fct_sales') }} as sales
    inner join {{ ref('dim_product') }} as products on sales.product_key = products.product_key
    where not sales.is_fuel and products.product_category is not null

),

numbered as (

    select
        basket_id,
        category,
        dense_rank() over (order by category) as category_number
    from members

),

names as (

    select
        category_number,
        category,
        count(*) as basket_count
    from numbered
    group by category_number, category

),

pairs as (

    select
        a.category_number as number_a,
        b.category_number as number_b,
        count(*) as both_count
    from numbered as a
    inner join numbered as b on a.basket_id = b.basket_id and a.category_number < b.category_number
    group by a.category_number, b.category_number

),

recounted as (

    select
        a.category as category_a,
        b.category as category_b,
        a.basket_count as count_a,
        b.basket_count as count_b,
        pairs.both_count,
        (select count(*) from {{ ref('fct_baskets') }}) as basket_count
    from pairs
    inner join names as a on pairs.number_a = a.category_number
    inner join names as b on pairs.number_b = b.category_number

)

select
    category_a,
    category_b,
    affinity.both_basket_count as mart_count,
    recounted.both_count
from affinity
full outer join recounted using (category_a, category_b)
where
    (recounted.both_count >= {{ var('affinity_min_support') }} * recounted.basket_count or affinity.support is not null)
    and (
        affinity.basket_count, affinity.category_a_basket_count, affinity.category_b_basket_count,
        affinity.both_basket_count
    )
    is distinct from
    (recounted.basket_count, recounted.count_a, recounted.count_b, recounted.both_count)
