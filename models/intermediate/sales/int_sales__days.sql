with

stores as (

    select * from {{ ref('daily_sales') }}

),

dates as (

    select * from {{ ref('dim_date') }}

),

traded as (

    select
        business_date,
        sum(basket_count) as basket_count,
        sum(line_count) as line_count,
        sum(item_count) as item_count,
        sum(sales_value) as sales_value,
        sum(retail_disc) as retail_disc,
        sum(coupon_disc) as coupon_disc,
        sum(coupon_match_disc) as coupon_match_disc,
        sum(regular_value) as regular_value,
        sum(loyalty_value) as loyalty_value,
        sum(customer_paid) as customer_paid
    from stores
    group by business_date

),

span as (

    select
        min(business_date) as first_date,
        max(business_date) as last_date
    from traded

)

select
    dates.date_day as business_date,
    dates.month_start_date,
    traded.business_date is not null as has_sales,
    coalesce(traded.basket_count, 0) as basket_count,
    coalesce(traded.line_count, 0) as line_count,
    coalesce(traded.item_count, 0) as item_count,
    cast(coalesce(traded.sales_value, 0) as numeric(12, 2)) as sales_value,
    cast(coalesce(traded.retail_disc, 0) as numeric(12, 2)) as retail_disc,
    cast(coalesce(traded.coupon_disc, 0) as numeric(12, 2)) as coupon_disc,
    cast(coalesce(traded.coupon_match_disc, 0) as numeric(12, 2)) as coupon_match_disc,
    cast(coalesce(traded.regular_value, 0) as numeric(12, 2)) as regular_value,
    cast(coalesce(traded.loyalty_value, 0) as numeric(12, 2)) as loyalty_value,
    cast(coalesce(traded.customer_paid, 0) as numeric(12, 2)) as customer_paid,
    case
        when dates.date_day - span.first_date >= 27
            then cast(sum(coalesce(traded.sales_value, 0)) over last_28_days as numeric(12, 2))
    end as rolling_28d_sales
from dates
inner join span on dates.date_day between span.first_date and span.last_date
left join traded on dates.date_day = traded.business_date
window last_28_days as (order by dates.date_day rows between 27 preceding and current row)
