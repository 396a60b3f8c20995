with

sales as (

    select * from {{ ref('fct_sales') }}

),

products as (

    select * from {{ ref('dim_product') }}

),

totals as (

    select
        count(*) as basket_count,
        {{ var('affinity_min_support') }} * count(*) as min_count
    from {{ ref('fct_baskets') }}

),

basket_categories as (

    select distinct -- a basket counts a category once
        sales.basket_id,
        products.product_category as category
    from sales
    inner join products on sales.product_key = products.product_key
    where not sales.is_fuel and products.product_category is not null

),

-- A pair is in no more baskets than either of its categories, so rare categories need not be paired. Numbers in the
-- order of the names pair faster than the names.
categories as materialized (

    select
        basket_categories.category,
        count(*) as basket_count,
        row_number() over (order by basket_categories.category) as category_number
    from basket_categories
    group by basket_categories.category
    having count(*) >= (select totals.min_count from totals)

),

members as materialized (

    select
        basket_categories.basket_id,
        categories.category_number
    from basket_categories
    inner join categories on basket_categories.category = categories.category

),

pairs as (

    select
        a.category_number as number_a,
        b.category_number as number_b,
        count(*) as both_count
    from members as a
    inner join members as b on a.basket_id = b.basket_id and a.category_number < b.category_number
    group by a.category_number, b.category_number
    having count(*) >= (select totals.min_count from totals)

)

select
    a.category as category_a,
    b.category as category_b,
    cast(totals.basket_count as integer) as basket_count,
    cast(a.basket_count as integer) as category_a_basket_count,
    cast(b.basket_count as integer) as category_b_basket_count,
    cast(pairs.both_count as integer) as both_basket_count,
    cast(cast(pairs.both_count as numeric) / totals.basket_count as numeric(9, 6)) as support,
    cast(cast(pairs.both_count as numeric) / a.basket_count as numeric(9, 6)) as confidence_a_to_b,
    cast(cast(pairs.both_count as numeric) / b.basket_count as numeric(9, 6)) as confidence_b_to_a,
    cast(
        cast(pairs.both_count as numeric) * totals.basket_count / (a.basket_count * b.basket_count) as numeric(12, 4)
    ) as lift
from pairs
inner join categories as a on pairs.number_a = a.category_number
inner join categories as b on pairs.number_b = b.category_number
cross join totals
