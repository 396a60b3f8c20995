with

sales as (

    select * from {{ ref('fct_sales') }}

),

categories as (

    select * from {{ ref('int_products__categories') }}

),

weeks as (

    select
        date_day,
        min(date_day) over (partition by year, retailer_week) as week_start_date
    from {{ ref('dim_date') }}

)

select
    weeks.week_start_date,
    categories.category_number,
    sales.basket_id,
    sales.product_id,
    case when sales.is_fuel then 0 else sales.quantity end as item_count,
    sales.sales_value,
    sales.retail_disc,
    sales.coupon_disc,
    sales.coupon_match_disc
from sales
inner join categories on sales.product_key = categories.product_key
inner join weeks on sales.business_date = weeks.date_day
