{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': 'product_id', 'changed_by': {
            'int_promotions__product_sales': 'product_id',
            'int_promotions__listed_weeks': 'product_id',
        }},
    )
}}

with

promotions as (

    select * from {{ ref('int_promotions__product_sales') }}
    where {{ granary.in_partitions() }}

),

listed as (

    select * from {{ ref('int_promotions__listed_weeks') }}
    where {{ granary.in_partitions() }}

),

sold as (

    select
        product_id,
        {%- for promotion in ['on', 'off', 'unknown'] %}
        coalesce(sum(line_count) filter (where promotion = '{{ promotion }}'), 0) as {{ promotion }}_line_count,
        coalesce(sum(sales_value) filter (where promotion = '{{ promotion }}'), 0) as {{ promotion }}_sales_value
        {%- if not loop.last %},{% endif %}
        {%- endfor %}
    from promotions
    group by product_id

),

rates as (

    select
        sold.*,
        listed.first_week,
        listed.last_week,
        listed.on_store_weeks,
        listed.store_weeks - listed.on_store_weeks as off_store_weeks,
        sold.on_sales_value / nullif(listed.on_store_weeks, 0) as on_rate,
        sold.off_sales_value / nullif(listed.store_weeks - listed.on_store_weeks, 0) as off_rate
    from sold
    inner join listed on sold.product_id = listed.product_id

)

select
    product_id,
    first_week,
    last_week,
    cast(on_line_count as integer) as on_line_count,
    cast(off_line_count as integer) as off_line_count,
    cast(unknown_line_count as integer) as unknown_line_count,
    cast(on_sales_value as numeric(12, 2)) as on_sales_value,
    cast(off_sales_value as numeric(12, 2)) as off_sales_value,
    cast(unknown_sales_value as numeric(12, 2)) as unknown_sales_value,
    cast(on_store_weeks as integer) as on_store_weeks,
    cast(off_store_weeks as integer) as off_store_weeks,
    cast(on_rate as numeric(12, 4)) as on_sales_per_store_week,
    cast(off_rate as numeric(12, 4)) as off_sales_per_store_week,
    cast(on_rate / nullif(off_rate, 0) as numeric(12, 4)) as lift,
    least(on_store_weeks, off_store_weeks) < 30 or least(on_line_count, off_line_count) < 10 as is_small_sample
from rates
