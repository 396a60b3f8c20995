{{ config(meta={'dagster': {'ref': {'name': 'basket_affinity'}}}) }}

-- Every pair of categories, counted again from fct_sales week by week; and basket_affinity has every pair that is
-- frequent enough, with what all weeks add up to.
{% set changed = {'fct_sales': 'week'} %}

with

affinity as (

    select * from {{ ref('basket_affinity') }}

),

pairs as (

    select * from {{ ref('int_products__category_pairs') }}

),

products as (

    select
        product_key,
        product_category as category,
        hashtextextended(product_category, 0) as category_id
    from {{ ref('dim_product') }}
    where product_category is not null

),

members as materialized (

    select distinct -- a basket counts a category once
        sales.week,
        sales.basket_id,
        products.category_id
    from {{ ref('fct_sales') }} as sales
    inner join products on sales.product_key = products.product_key
    where not sales.is_fuel {{ granary.and_of_latest_publish(changed, 'sales.week') }}

),

recounted as (

    select
        a.week,
        a.category_id as category_a_id,
        b.category_id as category_b_id,
        count(*) as basket_count
    from members as a
    inner join members as b on a.basket_id = b.basket_id and a.category_id <= b.category_id
    group by a.week, a.category_id, b.category_id

),

changed_pairs as (

    select * from pairs
    where true {{ granary.and_of_latest_publish(changed, 'week') }}

),

totals as (

    select
        category_a_id,
        category_b_id,
        sum(basket_count) as basket_count
    from pairs
    group by category_a_id, category_b_id

),

categories as (

    select distinct
        products.category,
        products.category_id,
        totals.basket_count
    from products
    inner join totals on products.category_id = totals.category_a_id and products.category_id = totals.category_b_id

),

-- In the order of the names.
expected as (

    select
        least(a.category, b.category) as category_a,
        greatest(a.category, b.category) as category_b,
        totals.basket_count as both_count,
        case when a.category < b.category then a.basket_count else b.basket_count end as count_a,
        case when a.category < b.category then b.basket_count else a.basket_count end as count_b,
        (select count(*) from {{ ref('fct_baskets') }}) as basket_count
    from totals
    inner join categories as a on totals.category_a_id = a.category_id
    inner join categories as b on totals.category_b_id = b.category_id
    where totals.category_a_id <> totals.category_b_id

)

select
    cast(week as text) as place,
    pairs.basket_count as mart_count,
    recounted.basket_count as fact_count
from recounted
full outer join changed_pairs as pairs using (week, category_a_id, category_b_id)
where pairs.basket_count is distinct from recounted.basket_count

union all

select
    category_a || ', ' || category_b as place,
    affinity.both_basket_count as mart_count,
    expected.both_count as fact_count
from affinity
full outer join expected using (category_a, category_b)
where
    (expected.both_count >= {{ var('affinity_min_support') }} * expected.basket_count or affinity.support is not null)
    and (
        affinity.basket_count, affinity.category_a_basket_count, affinity.category_b_basket_count,
        affinity.both_basket_count
    )
    is distinct from
    (expected.basket_count, expected.count_a, expected.count_b, expected.both_count)
