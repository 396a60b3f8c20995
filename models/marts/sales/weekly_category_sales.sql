{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': 'week_start_date', 'changed_by': {
            'fct_sales': "
                select distinct weeks.week_start_date
                from changes
                inner join {int_dates__weeks} as weeks on changes.business_date = weeks.date_day
            ",
            'int_products__categories': "
                select distinct weeks.week_start_date
                from changes
                inner join {fct_sales} as sales using (product_key)
                inner join {int_dates__weeks} as weeks on sales.business_date = weeks.date_day
                where changes.sign < 0
            ",
            'dim_date': 'rebuild',
        }},
    )
}}

with

-- Read twice, which takes a sixth of the time of writing 1.5 million lines down in between.
lines as not materialized (

    select * from {{ ref('int_sales__category_lines') }}
    where {{ granary.in_partitions('business_date', ref('int_dates__weeks'), 'date_day') }}

),

categories as (

    select distinct -- every product of a category names it
        category_id,
        department,
        product_category
    from {{ ref('int_products__categories') }}

),

dates as (

    select * from {{ ref('dim_date') }}

),

totals as (

    select
        week_start_date,
        category_id,
        count(*) as line_count,
        sum(item_count) as item_count,
        sum(sales_value) as sales_value,
        sum(retail_disc) as retail_disc,
        sum(coupon_disc) as coupon_disc,
        sum(coupon_match_disc) as coupon_match_disc
    from lines
    group by week_start_date, category_id

),

members as (

    select distinct -- a basket may hold several products of a category
        week_start_date,
        category_id,
        basket_id
    from lines

),

baskets as (

    select
        week_start_date,
        category_id,
        count(*) as basket_count
    from members
    group by week_start_date, category_id

)

select
    totals.week_start_date,
    categories.department,
    categories.product_category,
    dates.year,
    dates.retailer_week as week,
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
    on totals.week_start_date = baskets.week_start_date and totals.category_id = baskets.category_id
inner join categories on totals.category_id = categories.category_id
inner join dates on totals.week_start_date = dates.date_day
