{{ config(meta={'dagster': {'ref': {'name': 'private_label_share'}}}) }}

-- Every department and month: private_label_share adds up to the lines, brand by brand, with fuel apart.
{% set changed = {"fct_sales": "cast(date_trunc('month', business_date) as date)"} %}
{% do changed.update({"private_label_share": "month_start_date"}) %}

with

marts as (

    select * from {{ ref('private_label_share') }}
    where true {{ granary.and_of_latest_publish(changed, 'month_start_date') }}

),

facts as (

    select
        cast(date_trunc('month', sales.business_date) as date) as month_start_date,
        coalesce(products.department, 'unknown') as department,
        sum(sales.sales_value) as sales_value,
        coalesce(sum(sales.sales_value) filter (where sales.is_fuel), 0) as fuel_value,
        coalesce(sum(sales.sales_value) filter (where not sales.is_fuel and products.brand = 'Private'), 0)
            as private_value,
        coalesce(sum(sales.sales_value) filter (where not sales.is_fuel and products.brand = 'National'), 0)
            as national_value
    from {{ ref('fct_sales') }} as sales
    left join {{ ref('dim_product') }} as products on sales.product_key = products.product_key
    where
        sales.business_date in (
            select dates.date_day from {{ ref('dim_date') }} as dates
            where true {{ granary.and_of_latest_publish(changed, 'dates.month_start_date') }}
        )
    group by date_trunc('month', sales.business_date), products.department

)

select
    month_start_date,
    department,
    marts.sales_value as mart_value,
    facts.sales_value as fact_value
from marts
full outer join facts using (month_start_date, department)
where
    (marts.sales_value, marts.fuel_value, marts.private_value, marts.national_value)
    is distinct from
    (facts.sales_value, facts.fuel_value, facts.private_value, facts.national_value)
