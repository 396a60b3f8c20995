{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'changed_by': {'int_products__totals': 'all', 'dim_product': 'all'}},
    )
}}

with

sold as (

    select * from {{ ref('int_products__totals') }}

),

products as (

    select * from {{ ref('dim_product') }}
    where is_current

),

ranked as (

    select
        *,
        row_number() over by_sales as sales_rank,
        sum(sales_value) over () as total,
        sum(sales_value) over by_sales as up_to_this
    from sold
    window by_sales as (order by sales_value desc, product_id asc)

)

select
    ranked.product_id,
    products.department,
    products.product_category,
    products.product_type,
    products.brand,
    products.is_inferred,
    ranked.first_sold_date,
    ranked.last_sold_date,
    ranked.line_count,
    case when ranked.piece_line_count > 0 then ranked.item_count end as item_count,
    ranked.line_count as basket_count, -- a basket has a product in one line
    ranked.household_count,
    ranked.store_count,
    ranked.sales_value,
    ranked.regular_value,
    ranked.retail_disc,
    cast(ranked.sales_rank as integer) as sales_rank,
    cast(ranked.sales_value / nullif(ranked.total, 0) as numeric(9, 6)) as sales_share,
    cast(ranked.up_to_this / nullif(ranked.total, 0) as numeric(9, 6)) as cumulative_share,
    -- By what the products before it make, so the product that crosses a border is still in the class.
    case
        when ranked.up_to_this - ranked.sales_value < 0.80 * ranked.total then 'A'
        when ranked.up_to_this - ranked.sales_value < 0.95 * ranked.total then 'B'
        else 'C'
    end as abc_class
from ranked
left join products on ranked.product_id = products.product_id
