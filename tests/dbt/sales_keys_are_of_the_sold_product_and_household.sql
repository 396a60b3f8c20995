{{ config(meta={'dagster': {'ref': {'name': 'fct_sales'}}}) }}

-- The versions that a sale points at are of its own product and household, and were valid at its moment.
select
    sales.basket_id,
    sales.product_id,
    sales.household_id,
    sales.sold_at
from {{ ref('fct_sales') }} as sales
left join {{ ref('dim_product') }} as products on sales.product_key = products.product_key
left join {{ ref('dim_household') }} as households on sales.household_key = households.household_key
where
    (
        (sales.product_id, sales.household_id) is distinct from (products.product_id, households.household_id)
        or sales.sold_at < products.valid_from
        or sales.sold_at >= products.valid_to
        or sales.sold_at < households.valid_from
        or sales.sold_at >= households.valid_to
    ) {{ granary.and_of_latest_publish({'fct_sales': 'business_date'}, 'sales.business_date') }}
