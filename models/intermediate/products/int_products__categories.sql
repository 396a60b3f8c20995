with

products as (

    select
        product_key,
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
    cast(dense_rank() over (order by department) as integer) as department_number,
    cast(dense_rank() over (order by department, product_category) as integer) as category_number
from products
