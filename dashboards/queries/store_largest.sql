-- The twelve largest stores, month by month; a month without sales is zero.
with

largest as (

    select
        store_id,
        sales_rank
    from marts.store_performance
    where sales_rank <= 12

)

select
    cast(largest.store_id as text) as store,
    to_char(months.month_start_date, 'YYYY-MM') as month,
    largest.sales_rank,
    coalesce(sum(sales.sales_value), 0) as sales,
    coalesce(sum(sales.basket_count), 0) as baskets
from largest
cross join marts.monthly_sales as months
left join marts.daily_sales as sales
    on
        largest.store_id = sales.store_id
        and months.month_start_date <= sales.business_date
        and months.month_start_date + interval '1 month' > sales.business_date
group by largest.store_id, largest.sales_rank, months.month_start_date
order by largest.sales_rank, months.month_start_date
