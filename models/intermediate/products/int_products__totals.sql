{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={'partition_by': 'product_id', 'changed_by': {
            'fct_sales': 'product_id',
            'int_products__households': 'product_id',
            'int_products__stores': 'product_id',
        }},
    )
}}

{% set of_lines = ['line_count', 'piece_line_count', 'item_count', 'sales_value', 'regular_value', 'retail_disc'] %}
{% set of_pairs = ['household_count', 'store_count'] %}

with

changes as (

    select
        product_id,
        sign as line_count,
        case when is_fuel then 0 else sign end as piece_line_count,
        case when is_fuel then 0 else sign * quantity end as item_count,
        sign * sales_value as sales_value,
        sign * regular_value as regular_value,
        sign * retail_disc as retail_disc,
        0 as household_count,
        0 as store_count
    from {{ granary.changed_rows(ref('fct_sales')) }} as changed
    {%- for pairs in [ref('int_products__households'), ref('int_products__stores')] %}

    union all

    select
        product_id,
        {%- for sum in of_lines %}
        0 as {{ sum }},
        {%- endfor %}
        {{ 'sign' if loop.first else 0 }} as household_count,
        {{ 'sign' if loop.last else 0 }} as store_count
    from {{ granary.changed_rows(pairs) }} as changed
    {%- endfor %}
    {%- if is_incremental() %}

    union all

    select
        product_id,
        {{ (of_lines + of_pairs) | join(',\n        ') }}
    from {{ this }}
    where {{ granary.in_partitions() }}
    {%- endif %}

),

totals as (

    select
        product_id,
        {%- for sum in of_lines + of_pairs %}
        sum({{ sum }}) as {{ sum }}
        {%- if not loop.last %},{% endif %}
        {%- endfor %}
    from changes
    group by product_id
    having sum(line_count) <> 0

)

select
    totals.product_id,
    dates.first_sold_date,
    dates.last_sold_date,
    cast(totals.line_count as integer) as line_count,
    cast(totals.piece_line_count as integer) as piece_line_count,
    cast(totals.item_count as bigint) as item_count,
    cast(totals.household_count as integer) as household_count,
    cast(totals.store_count as integer) as store_count,
    cast(totals.sales_value as numeric(12, 2)) as sales_value,
    cast(totals.regular_value as numeric(12, 2)) as regular_value,
    cast(totals.retail_disc as numeric(12, 2)) as retail_disc
from totals
-- The least and the greatest cannot be kept by what changed: they are looked up in the index.
cross join lateral (
    select
        min(sales.business_date) as first_sold_date,
        max(sales.business_date) as last_sold_date
    from {{ ref('fct_sales') }} as sales
    where sales.product_id = totals.product_id
) as dates
