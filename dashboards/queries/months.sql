-- Month, and in the row without one all months: the figures of the overview, with those of the month earlier.
with

own_brands as (

    select
        month_start_date,
        sum(private_value) as private_value,
        sum(sales_value - fuel_value) as sales_without_fuel
    from marts.private_label_share
    group by month_start_date

),

months as (

    select
        months.month_start_date,
        months.days_with_sales,
        months.basket_count,
        months.household_count,
        months.sales_value,
        months.regular_value,
        months.retail_disc + months.coupon_match_disc as given_up,
        own_brands.private_value,
        own_brands.sales_without_fuel
    from marts.monthly_sales as months
    inner join own_brands on months.month_start_date = own_brands.month_start_date

),

totals as (

    select
        cast(null as date) as month_start_date,
        sum(days_with_sales) as days_with_sales,
        sum(basket_count) as basket_count,
        (select count(distinct baskets.household_id) from marts.fct_baskets as baskets) as household_count,
        sum(sales_value) as sales_value,
        sum(regular_value) as regular_value,
        sum(given_up) as given_up,
        sum(private_value) as private_value,
        sum(sales_without_fuel) as sales_without_fuel
    from months

),

periods as (

    select * from months
    union all
    select * from totals

)

select
    to_char(periods.month_start_date, 'YYYY-MM') as month,
    periods.days_with_sales as trading_days,
    periods.sales_value as sales,
    periods.basket_count as baskets,
    periods.household_count as households,
    periods.regular_value,
    periods.given_up,
    periods.private_value,
    periods.sales_without_fuel,
    earlier.days_with_sales as previous_trading_days,
    earlier.sales_value as previous_sales,
    earlier.basket_count as previous_baskets,
    earlier.household_count as previous_households,
    earlier.regular_value as previous_regular_value,
    earlier.given_up as previous_given_up,
    earlier.private_value as previous_private_value,
    earlier.sales_without_fuel as previous_sales_without_fuel
from periods
left join months as earlier on periods.month_start_date - interval '1 month' = earlier.month_start_date
order by periods.month_start_date nulls first
