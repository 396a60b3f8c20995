-- Mart: its sales, and how far they are from those of the receipts, which their audit compares with the lines.
with

receipts as materialized ( -- once, and not for each mart

    select sum(sales_value) as sales
    from marts.fct_baskets

),

marts as (

    select
        'daily_sales' as mart,
        sum(sales_value) as sales
    from marts.daily_sales
    union all
    select
        'weekly_category_sales' as mart,
        sum(sales_value) as sales
    from marts.weekly_category_sales
    union all
    select
        'monthly_sales' as mart,
        sum(sales_value) as sales
    from marts.monthly_sales
    union all
    select
        'private_label_share' as mart,
        sum(sales_value) as sales
    from marts.private_label_share
    union all
    select
        'store_performance' as mart,
        sum(sales_value) as sales
    from marts.store_performance
    union all
    select
        'household_value' as mart,
        sum(sales_value) as sales
    from marts.household_value
    union all
    select
        'cohort_retention' as mart,
        sum(sales_value) as sales
    from marts.cohort_retention
    union all
    select
        'promotion_performance' as mart,
        sum(sales_value) as sales
    from marts.promotion_performance
    union all
    select
        'product_performance' as mart,
        sum(sales_value) as sales
    from marts.product_performance

)

select
    marts.mart,
    marts.sales,
    receipts.sales as receipt_sales,
    marts.sales - receipts.sales as difference,
    cast(marts.sales is distinct from receipts.sales as integer) as differing
from marts
cross join receipts
order by marts.mart
