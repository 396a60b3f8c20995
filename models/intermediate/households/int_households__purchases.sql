{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={
            'partition_by': 'household_id',
            'changed_by': {'fct_baskets': 'household_id'},
            'depends_on_vars': ['as_of'],
        },
    )
}}

with

baskets as (

    select * from {{ ref('fct_baskets') }}
    where
        {{ granary.in_partitions() }}
        {%- if var('as_of') %}
        and business_date < date '{{ var("as_of") }}'
        {%- endif %}

),

history as (

    select
        household_id,
        business_date,
        sales_value,
        regular_value,
        retail_disc + coupon_disc + coupon_match_disc as discount_value,
        business_date - lag(business_date) over (
            partition by household_id order by sold_at, basket_id
        ) as gap_days
    from baskets

)

select
    household_id,
    min(business_date) as first_purchase_date,
    max(business_date) as last_purchase_date,
    count(*) as basket_count,
    count(distinct business_date) as shopping_day_count,
    count(distinct date_trunc('month', business_date)) as active_month_count,
    percentile_cont(0.5) within group (order by gap_days) as median_gap_days,
    cast(sum(sales_value) as numeric(12, 2)) as sales_value,
    cast(sum(regular_value) as numeric(12, 2)) as regular_value,
    cast(sum(discount_value) as numeric(12, 2)) as discount_value
from history
group by household_id
