-- Store and month: additive figures.
select
    cast(sales.store_id as text) as store,
    to_char(dates.month_start_date, 'YYYY-MM') as month,
    sum(sales.sales_value) as sales,
    sum(sales.basket_count) as baskets,
    sum(sales.retail_disc + sales.coupon_match_disc) as given_up,
    sum(sales.regular_value) as regular_value
from marts.daily_sales as sales
inner join marts.dim_date as dates on sales.business_date = dates.date_day
group by sales.store_id, dates.month_start_date
order by sales.store_id, dates.month_start_date
