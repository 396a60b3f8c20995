-- Day of the calendar: sales of all stores, and those of the 28 days that end with it once there are as many.
with

sales as (

    select
        business_date,
        sum(sales_value) as sales_value,
        sum(basket_count) as basket_count
    from marts.daily_sales
    group by business_date

),

days as (

    select
        dates.date_day,
        coalesce(sales.sales_value, 0) as sales_value,
        coalesce(sales.basket_count, 0) as basket_count
    from marts.dim_date as dates
    left join sales on dates.date_day = sales.business_date
    where
        dates.date_day >= (select min(earliest.business_date) from sales as earliest)
        and dates.date_day <= (select max(latest.business_date) from sales as latest)

),

rolling as (

    select
        *,
        count(*) over four_weeks as day_count,
        sum(sales_value) over four_weeks as rolling_28d_sales
    from days
    window four_weeks as (order by date_day rows between 27 preceding and current row)

)

select
    to_char(date_day, 'YYYY-MM-DD') as business_date,
    to_char(date_day, 'YYYY-MM') as month,
    sales_value as sales,
    basket_count as baskets,
    case when day_count = 28 then rolling_28d_sales end as rolling_28d_sales,
    case when day_count = 28 then round(rolling_28d_sales / 28, 2) end as rolling_28d_per_day
from rolling
order by date_day
