{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={
            'depends_on_vars': ['as_of'],
            'changed_by': {
                'int_households__purchases': 'all',
                'int_households__store_sales': 'all',
                'int_households__department_sales': 'all',
                'int_products__categories': 'all',
                'fct_baskets': 'all',
            },
        },
    )
}}

with

purchases as (

    select * from {{ ref('int_households__purchases') }}

),

reference_days as (

    select * from {{ ref('int_households__reference_days') }}
    where days_back = 0

),

stores as (

    select * from {{ ref('int_households__stores') }}
    where preference = 1

),

departments as (

    select
        household_id,
        max(department) filter (where preference = 1) as favourite_department,
        sum(private_value) as private_value,
        sum(national_value) as national_value
    from {{ ref('int_households__departments') }}
    group by household_id

),

expected as (

    select * from {{ ref('int_households__expected_sales') }}
    where days_back = 0

),

segments as (

    select * from {{ ref('rfm_segments') }}

),

scored as (

    select
        purchases.*,
        reference_days.reference_date as as_of_date,
        ntile(5) over (order by purchases.last_purchase_date, purchases.household_id) as recency_score,
        ntile(5) over (order by purchases.basket_count, purchases.household_id) as frequency_score,
        ntile(5) over (order by purchases.sales_value, purchases.household_id) as monetary_score
    from purchases
    cross join reference_days

)

select
    scored.household_id,
    scored.as_of_date,
    scored.first_purchase_date,
    scored.last_purchase_date,
    cast(scored.basket_count as integer) as basket_count,
    cast(scored.shopping_day_count as integer) as shopping_day_count,
    cast(scored.active_month_count as integer) as active_month_count,
    cast(scored.median_gap_days as numeric(6, 1)) as median_gap_days,
    scored.sales_value,
    scored.discount_value,
    cast(scored.discount_value / nullif(scored.regular_value, 0) as numeric(9, 4)) as discount_share,
    cast(
        departments.private_value / nullif(departments.private_value + departments.national_value, 0) as numeric(9, 4)
    ) as private_label_share,
    stores.store_id as favourite_store_id,
    departments.favourite_department,
    scored.recency_score,
    scored.frequency_score,
    scored.monetary_score,
    segments.segment,
    scored.as_of_date - scored.last_purchase_date > 90 as is_lapsed,
    expected.expected_value as expected_90d_sales
from scored
inner join stores on scored.household_id = stores.household_id
inner join departments on scored.household_id = departments.household_id
inner join expected on scored.household_id = expected.household_id
left join segments
    on scored.recency_score = segments.recency_score and scored.frequency_score = segments.frequency_score
