-- Month: days of the calendar, and days with sales.
select
    to_char(month_start_date, 'YYYY-MM') as month,
    days_in_month,
    days_with_sales,
    days_in_month - days_with_sales as days_without_sales,
    to_char(last_date, 'YYYY-MM-DD') as last_date
from marts.monthly_sales
order by month_start_date
