with

sales as (

    select * from {{ ref('int_households__department_sales') }}

),

departments as (

    select distinct -- every product of a department names it
        department_id,
        department
    from {{ ref('int_products__categories') }}

)

select
    sales.household_id,
    departments.department,
    sales.sales_value,
    sales.private_value,
    sales.national_value,
    row_number() over (
        partition by sales.household_id order by sales.sales_value desc, departments.department asc
    ) as preference
from sales
inner join departments on sales.department_id = departments.department_id
