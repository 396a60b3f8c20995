{{ config(meta={'dagster': {'ref': {'name': 'household_value'}}}) }}

-- Every household that bought before the reference day: household_value adds up to its lines until then, and so do its
-- own brands.
{% set changed = {'fct_sales': 'household_id'} %}

with

marts as (

    select * from {{ ref('household_value') }}
    where true {{ granary.and_of_latest_publish(changed, 'household_id', sample=16) }}

),

as_of as (

    select coalesce(cast(nullif('{{ var("as_of") }}', '') as date), max(business_date) + 1) as as_of_date
    from {{ ref('fct_sales') }}

),

facts as (

    select
        sales.household_id,
        as_of.as_of_date,
        min(sales.business_date) as first_purchase_date,
        max(sales.business_date) as last_purchase_date,
        count(distinct sales.basket_id) as basket_count,
        count(distinct sales.business_date) as shopping_day_count,
        sum(sales.sales_value) as sales_value,
        sum(sales.regular_value - sales.customer_paid) as discount_value,
        cast(
            coalesce(sum(sales.sales_value) filter (where products.brand = 'Private' and not sales.is_fuel), 0)
            / nullif(sum(sales.sales_value) filter (where products.brand is not null and not sales.is_fuel), 0)
            as numeric(9, 4)
        ) as private_label_share
    from {{ ref('fct_sales') }} as sales
    inner join as_of on sales.business_date < as_of.as_of_date
    left join {{ ref('dim_product') }} as products on sales.product_key = products.product_key
    where true {{ granary.and_of_latest_publish(changed, 'sales.household_id', sample=16) }}
    group by sales.household_id, as_of.as_of_date

)

select
    household_id,
    marts.sales_value as mart_value,
    facts.sales_value as fact_value
from marts
full outer join facts using (household_id)
where
    (
        marts.as_of_date, marts.first_purchase_date, marts.last_purchase_date, marts.basket_count,
        marts.shopping_day_count, marts.sales_value, marts.discount_value, marts.private_label_share
    )
    is distinct from
    (
        facts.as_of_date, facts.first_purchase_date, facts.last_purchase_date, facts.basket_count,
        facts.shopping_day_count, facts.sales_value, facts.discount_value, facts.private_label_share
    )
