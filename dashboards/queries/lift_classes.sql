-- Department and class of lift: products with enough store-weeks and lines on both sides.
with

classes (place, lift_class, above, upto) as (

    values
    (1, 'under ½', cast(-1 as numeric), 0.5),
    (2, '½ to 1', 0.5, 1),
    (3, '1 to 1½', 1, 1.5),
    (4, '1½ to 2', 1.5, 2),
    (5, '2 to 3', 2, 3),
    (6, '3 to 5', 3, 5),
    (7, 'over 5', 5, cast('infinity' as numeric))

)

select
    coalesce(products.department, 'unknown') as department,
    classes.place,
    classes.lift_class,
    count(*) as products,
    count(*) filter (where lift.lift > 1) as gaining,
    sum(lift.on_sales_value) as on_sales
from marts.promotion_lift as lift
inner join marts.product_performance as products on lift.product_id = products.product_id
inner join classes on lift.lift > classes.above and lift.lift <= classes.upto
where not lift.is_small_sample
group by coalesce(products.department, 'unknown'), classes.place, classes.lift_class
order by classes.place, department
