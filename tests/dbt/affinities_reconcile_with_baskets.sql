{{ config(meta={'dagster': {'ref': {'name': 'basket_affinity'}}}) }}

-- Every pair of categories, counted again from fct_sales without leaving rare categories out first.
with

affinity as (

    select * from {{ ref('basket_affinity') }}

),

products as (

    select
        product_key,
        product_category as category,
        dense_rank() over (order by product_category) as category_number
    from {{ ref('dim_product') }}
    where product_category is not null

),

members as materialized (

    select distinct -- a basket counts a category once
        sales.basket_id,
        products.category_number
    from {{ ref('fct_sales') }} as sales
    inner join products on sales.product_key = products.product_key
    where not sales.is_fuel

),

counted as (

    select
        category_number,
        count(*) as basket_count
    from members
    group by category_number

),

names as (

    select
        counted.category_number,
        counted.basket_count,
        min(products.category) as category
    from counted
    inner join products on counted.category_number = products.category_number
    group by counted.category_number, counted.basket_count

),

pairs as (

    select
        a.category_number as number_a,
        b.category_number as number_b,
        count(*) as both_count
    from members as a
    inner join members as b on a.basket_id = b.basket_id and a.category_number < b.category_number
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
