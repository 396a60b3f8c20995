with

sales as (

    select * from {{ ref('fct_sales') }}

),

categories as (

    select * from {{ ref('int_products__categories') }}

),

reference_days as (

    select * from {{ ref('int_households__reference_days') }}
    where days_back = 0

),

numbered as (

    select
        sales.household_id,
        categories.department_id,
        sum(sales.sales_value) as sales_value,
        coalesce(
            sum(sales.sales_value) filter (where categories.brand = 'Private' and not sales.is_fuel), 0
        ) as private_value,
        coalesce(
            sum(sales.sales_value) filter (where categories.brand = 'National' and not sales.is_fuel), 0
        ) as national_value
    from sales
    inner join categories on sales.product_key = categories.product_key
    inner join reference_days on sales.business_date < reference_days.reference_date
    group by sales.household_id, categories.department_id

),

names as (

    select distinct -- every product of a department names it
        department_id,
        department
    from categories

)

select
    numbered.household_id,
    names.department,
    cast(numbered.sales_value as numeric(12, 2)) as sales_value,
    cast(numbered.private_value as numeric(12, 2)) as private_value,
    cast(numbered.national_value as numeric(12, 2)) as national_value,
    row_number() over (
        partition by numbered.household_id order by numbered.sales_value desc, names.department asc
    ) as preference
from numbered
inner join names on numbered.department_id = names.department_id
