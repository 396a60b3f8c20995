-- Department, week and whether the product was on display or in the mailer in that store and week.
select
    coalesce(department, 'unknown') as department,
    week,
    promotion,
    sum(line_count) as line_count,
    sum(sales_value) as sales,
    sum(regular_value) as regular_value,
    sum(retail_disc) as loyalty_discount,
    sum(sales_value) filter (where promotion = 'on') as on_sales,
    sum(sales_value) filter (where promotion <> 'unknown') as known_sales,
    sum(sales_value) filter (where promotion = 'unknown') as unknown_sales
from marts.promotion_performance
group by coalesce(department, 'unknown'), week, promotion
order by department, week, promotion
