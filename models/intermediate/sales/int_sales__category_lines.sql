with

sales as (

    select * from {{ ref('fct_sales') }}

),

categories as (

    select * from {{ ref('int_products__categories') }}

),

weeks as (

    select * from {{ ref('int_dates__weeks') }}

)

select
    weeks.week_start_date,
    categories.category_id,
    sales.business_date,
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
