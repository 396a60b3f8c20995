-- The products of each department that sell most on promotion, with enough weeks and lines on both sides.
select
    department,
    product_type || ' (' || product_id || ')' as product,
    on_sales_value as on_sales,
    on_store_weeks,
    off_store_weeks,
    lift
from (
    select
        lift.*,
        coalesce(products.department, 'unknown') as department,
        coalesce(products.product_type, 'unknown') as product_type,
        row_number() over (
            partition by products.department order by lift.on_sales_value desc, lift.product_id asc
        ) as place
    from marts.promotion_lift as lift
    inner join marts.product_performance as products on lift.product_id = products.product_id
    where not lift.is_small_sample and lift.lift is not null
) as ranked
where place <= 15
order by on_sales desc, product_id asc
