{{ config(meta={'dagster': {'ref': {'name': 'private_label_share'}}}) }}

-- Every month: the parts of private_label_share add up to the lines, and fuel is all of the facts' fuel.
with

marts as (

    select
        month_start_date,
        sum(sales_value) as sales_value,
        sum(private_value + national_value + unbranded_value) as other_value,
        sum(fuel_value) as fuel_value
    from {{ ref('private_label_share') }}
    group by month_start_date

),

facts as (

    select
        cast(date_trunc('month', business_date) as date) as month_start_date,
        sum(sales_value) as sales_value,
        coalesce(sum(sales_value) filter (where not is_fuel), 0) as other_value,
        coalesce(sum(sales_value) filter (where is_fuel), 0) as fuel_value
    from {{ ref('fct_sales') }}
    group by date_trunc('month', business_date)

)

select
    month_start_date,
    marts.sales_value as mart_value,
    facts.sales_value as fact_value
from marts
full outer join facts using (month_start_date)
where
    (
        marts.sales_value, marts.other_value, marts.fuel_value
    )
    is distinct from
    (
        facts.sales_value, facts.other_value, facts.fuel_value
    )
