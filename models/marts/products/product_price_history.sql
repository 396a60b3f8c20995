with

sales as (

    select * from {{ ref('fct_sales') }}
    where quantity > 0 and not is_fuel

),

lines as (

    select
        product_id,
        week,
        business_date,
        quantity,
        sales_value,
        round(regular_value / quantity, 2) as regular_price,
        round(loyalty_value / quantity, 2) as loyalty_price,
        case when coupon_disc > 0 then round(customer_paid / quantity, 2) end as coupon_price
    from sales

),

weeks as (

    select
        product_id,
        week,
        min(business_date) as first_sold_date,
        max(business_date) as last_sold_date,
        count(*) as line_count,
        count(coupon_price) as coupon_line_count,
        sum(quantity) as item_count,
        sum(sales_value) as sales_value,
        percentile_disc(0.5) within group (order by regular_price) as regular_price,
        percentile_disc(0.5) within group (order by loyalty_price) as loyalty_price,
        percentile_disc(0.5) within group (order by coupon_price) as coupon_price
    from lines
    group by product_id, week

)

select
    product_id,
    week,
    first_sold_date,
    last_sold_date,
    cast(line_count as integer) as line_count,
    cast(coupon_line_count as integer) as coupon_line_count,
    item_count,
    cast(sales_value as numeric(12, 2)) as sales_value,
    cast(regular_price as numeric(12, 2)) as regular_price,
    cast(loyalty_price as numeric(12, 2)) as loyalty_price,
    cast(coupon_price as numeric(12, 2)) as coupon_price,
    cast(
        regular_price - lag(regular_price) over (partition by product_id order by week) as numeric(12, 2)
    ) as regular_price_change,
    lead(week) over (partition by product_id order by week) as next_week
from weeks
