{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'changed_by': {'dim_product': 'all'}},
    )
}}

with

products as (

    select
        product_key,
        product_category is not null as is_categorised,
        coalesce(department, 'unknown') as department,
        coalesce(product_category, 'unknown') as product_category,
        coalesce(brand, 'unknown') as brand
    from {{ ref('dim_product') }}

)

select
    product_key,
    department,
    product_category,
    brand,
    is_categorised,
    hashtextextended(department, 0) as department_id,
    hashtextextended(product_category, hashtextextended(department, 0)) as category_id
from products
