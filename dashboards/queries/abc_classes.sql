-- Department and ABC class: products and their sales.
select
    coalesce(department, 'unknown') as department,
    abc_class,
    count(*) as products,
    sum(sales_value) as sales
from marts.product_performance
group by coalesce(department, 'unknown'), abc_class
order by abc_class, department
