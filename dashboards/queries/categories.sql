-- Category: sales and discounts of the whole time.
select
    coalesce(department, 'unknown') as department,
    coalesce(product_category, 'unknown') as category,
    sum(sales_value) as sales,
    sum(retail_disc + coupon_match_disc) as given_up,
    sum(regular_value) as regular_value,
    sum(item_count) as units
from marts.weekly_category_sales
group by coalesce(department, 'unknown'), coalesce(product_category, 'unknown')
order by sales desc, category asc
