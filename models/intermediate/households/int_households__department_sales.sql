{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={
            'partition_by': ['household_id', 'department_id'],
            'depends_on_vars': ['as_of'],
            'changed_by': {
                'fct_sales': "
                    select distinct changes.household_id, categories.department_id
                    from changes
                    inner join {int_products__categories} as categories using (product_key)
                ",
                'int_products__categories': 'rebuild if sign < 0',
            },
        },
    )
}}

with

categories as (

    select * from {{ ref('int_products__categories') }}

),

lines as (

    select
        changed.household_id,
        categories.department_id,
        changed.sign as line_count,
        changed.sign * changed.sales_value as sales_value,
        case
            when categories.brand = 'Private' and not changed.is_fuel then changed.sign * changed.sales_value else 0
        end as private_value,
        case
            when categories.brand = 'National' and not changed.is_fuel then changed.sign * changed.sales_value else 0
        end as national_value
    from {{ granary.changed_rows(ref('fct_sales')) }} as changed
    inner join categories on changed.product_key = categories.product_key
    {%- if var('as_of') %}
    where changed.business_date < date '{{ var("as_of") }}'
    {%- endif %}
    {%- if is_incremental() %}

    union all

    select
        household_id,
        department_id,
        line_count,
        sales_value,
        private_value,
        national_value
    from {{ this }}
    where {{ granary.in_partitions() }}
    {%- endif %}

)

select
    household_id,
    department_id,
    cast(sum(line_count) as integer) as line_count,
    cast(sum(sales_value) as numeric(12, 2)) as sales_value,
    cast(sum(private_value) as numeric(12, 2)) as private_value,
    cast(sum(national_value) as numeric(12, 2)) as national_value
from lines
group by household_id, department_id
having sum(line_count) <> 0
