-- Department and month: sales, and own brands among what is not fuel.
select
    coalesce(department, 'unknown') as department,
    to_char(month_start_date, 'YYYY-MM') as month,
    sales_value as sales,
    private_value,
    sales_value - fuel_value as sales_without_fuel
from marts.private_label_share
order by department, month_start_date
