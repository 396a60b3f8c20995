-- Month, and in the row without one all months: the figures of the overview, with those of the month before.
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
    to_char(this.month_start_date, 'YYYY-MM') as month,
    this.days_with_sales as trading_days,
    this.sales_value as sales,
    this.basket_count as baskets,
    this.household_count as households,
    this.regular_value,
    this.given_up,
    this.private_value,
    this.sales_without_fuel,
    before.days_with_sales as previous_trading_days,
    before.sales_value as previous_sales,
    before.basket_count as previous_baskets,
    before.household_count as previous_households,
    before.regular_value as previous_regular_value,
    before.given_up as previous_given_up,
    before.private_value as previous_private_value,
    before.sales_without_fuel as previous_sales_without_fuel
from periods as this
left join months as before on this.month_start_date - interval '1 month' = before.month_start_date
order by this.month_start_date nulls first
