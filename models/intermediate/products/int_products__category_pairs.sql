{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': 'week', 'changed_by': {
            'fct_sales': 'week',
            'int_products__categories': "
                select distinct sales.week
                from changes
                inner join {fct_sales} as sales using (product_key)
                where changes.sign < 0
            ",
        }},
    )
}}

with

sales as (

    select * from {{ ref('fct_sales') }}
    where not is_fuel and {{ granary.in_partitions() }}

),

categories as (

    select
        product_key,
        hashtextextended(product_category, 0) as category_id
    from {{ ref('int_products__categories') }}
    where is_categorised

),

members as materialized (

    select distinct -- a basket counts a category once
        sales.week,
        sales.basket_id,
        categories.category_id
    from sales
    inner join categories on sales.product_key = categories.product_key

)

select
    a.week,
    a.category_id as category_a_id,
    b.category_id as category_b_id,
    cast(count(*) as integer) as basket_count
from members as a
inner join members as b on a.basket_id = b.basket_id and a.category_id <= b.category_id
group by a.week, a.category_id, b.category_id
