-- Department and ABC class: products and their sales.
select
    coalesce(department, 'UNKNOWN') as department,
    abc_class,
    count(*) as products,
    sum(sales_value) as sales
from marts.product_performance
group by coalesce(department, 'UNKNOWN'), abc_class
order by department, abc_class
