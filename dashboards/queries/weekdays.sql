-- Month and day of the week: sales, baskets and trading days.
select
    to_char(dates.month_start_date, 'YYYY-MM') as month,
    dates.day_name,
    sum(sales.sales_value) as sales,
    sum(sales.basket_count) as baskets,
    count(distinct sales.business_date) as trading_days
from marts.daily_sales as sales
inner join marts.dim_date as dates on sales.business_date = dates.date_day
group by dates.month_start_date, dates.day_name, dates.iso_day_of_week
order by dates.month_start_date, dates.iso_day_of_week
