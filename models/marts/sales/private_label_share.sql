{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': 'month_start_date', 'changed_by': {
            'fct_sales': "cast(date_trunc('month', business_date) as date)",
            'int_products__categories': "
                select distinct cast(date_trunc('month', sales.business_date) as date)
                from changes
                inner join {fct_sales} as sales using (product_key)
                where changes.sign < 0
            ",
            'dim_date': 'never',
        }},
    )
}}

with

sales as (

    select * from {{ ref('fct_sales') }}
    where {{ granary.in_partitions('business_date', ref('dim_date'), 'date_day') }}

),

categories as (

    select * from {{ ref('int_products__categories') }}

),

brands as (

    select distinct -- every product of a department and brand names them
        department,
        brand,
        department_id
    from categories

),

days as (

    select
        sales.business_date,
        sales.is_fuel,
        categories.department_id,
        categories.brand,
        sum(sales.sales_value) as sales_value
    from sales
    inner join categories on sales.product_key = categories.product_key
    group by sales.business_date, sales.is_fuel, categories.department_id, categories.brand

),

months as (

    select
        brands.department,
        cast(date_trunc('month', days.business_date) as date) as month_start_date,
        sum(days.sales_value) as sales_value,
        coalesce(sum(days.sales_value) filter (where days.is_fuel), 0) as fuel_value,
        coalesce(sum(days.sales_value) filter (where not days.is_fuel and days.brand = 'Private'), 0) as private_value,
        coalesce(sum(days.sales_value) filter (where not days.is_fuel and days.brand = 'National'), 0) as national_value
    from days
    inner join brands on days.department_id = brands.department_id and days.brand = brands.brand
    group by brands.department, date_trunc('month', days.business_date)

)

select
    department,
    month_start_date,
    cast(sales_value as numeric(12, 2)) as sales_value,
    cast(private_value as numeric(12, 2)) as private_value,
    cast(national_value as numeric(12, 2)) as national_value,
    cast(fuel_value as numeric(12, 2)) as fuel_value,
    cast(sales_value - private_value - national_value - fuel_value as numeric(12, 2)) as unbranded_value,
    cast(private_value / nullif(private_value + national_value, 0) as numeric(9, 4)) as private_label_share
from months
