with

sales as (

    select * from {{ ref('fct_sales') }}

),

categories as (

    select * from {{ ref('int_products__categories') }}

),

names as (

    select distinct -- every product of a category names it
        category_number,
        department,
        product_category
    from categories

),

weeks as (

    select
        date_day,
        year,
        retailer_week as week,
        min(date_day) over (partition by year, retailer_week) as week_start_date
    from {{ ref('dim_date') }}

),

-- Read twice, which takes a sixth of the time of writing 1.5 million lines down in between; the same goes for grouping
-- them by the category's number and not by its two names.
lines as not materialized (

    select
        sales.*,
        weeks.week_start_date,
        categories.category_number
    from sales
    inner join categories on sales.product_key = categories.product_key
    inner join weeks on sales.business_date = weeks.date_day

),

totals as (

    select
        week_start_date,
        category_number,
        count(*) as line_count,
        coalesce(sum(quantity) filter (where not is_fuel), 0) as item_count,
        sum(sales_value) as sales_value,
        sum(retail_disc) as retail_disc,
        sum(coupon_disc) as coupon_disc,
        sum(coupon_match_disc) as coupon_match_disc
    from lines
    group by week_start_date, category_number

),

memberships as (

    select distinct -- a basket may hold several products of a category
        week_start_date,
        category_number,
        basket_id
    from lines

),

baskets as (

    select
        week_start_date,
        category_number,
        count(*) as basket_count
    from memberships
    group by week_start_date, category_number

)

select
    totals.week_start_date,
    names.department,
    names.product_category,
    weeks.year,
    weeks.week,
    cast(baskets.basket_count as integer) as basket_count,
    cast(totals.line_count as integer) as line_count,
    cast(totals.item_count as integer) as item_count,
    cast(totals.sales_value as numeric(12, 2)) as sales_value,
    cast(totals.retail_disc as numeric(12, 2)) as retail_disc,
    cast(totals.coupon_disc as numeric(12, 2)) as coupon_disc,
    cast(totals.coupon_match_disc as numeric(12, 2)) as coupon_match_disc,
    cast(totals.sales_value + totals.retail_disc + totals.coupon_match_disc as numeric(12, 2)) as regular_value,
    cast(totals.retail_disc + totals.coupon_disc + totals.coupon_match_disc as numeric(12, 2)) as discount_value
from totals
inner join baskets
    on totals.week_start_date = baskets.week_start_date and totals.category_number = baskets.category_number
inner join names on totals.category_number = names.category_number
inner join weeks on totals.week_start_date = weeks.date_day
