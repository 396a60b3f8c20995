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

{% set sums = ['line_count', 'piece_line_count', 'item_count', 'household_count', 'store_count', 'sales_value',
    'regular_value', 'retail_disc'] %}

with

changes as (

    select
        product_id,
        sign as line_count,
        case when is_fuel then 0 else sign end as piece_line_count,
        case when is_fuel then 0 else sign * quantity end as item_count,
        0 as household_count,
        0 as store_count,
        sign * sales_value as sales_value,
        sign * regular_value as regular_value,
        sign * retail_disc as retail_disc
    from {{ granary.changed_rows(ref('fct_sales')) }} as changed

    union all

    select product_id, 0, 0, 0, sign, 0, 0, 0, 0
    from {{ granary.changed_rows(ref('int_products__households')) }} as changed

    union all

    select product_id, 0, 0, 0, 0, sign, 0, 0, 0
    from {{ granary.changed_rows(ref('int_products__stores')) }} as changed
    {%- if is_incremental() %}

    union all

    select product_id, {{ sums | join(', ') }}
    from {{ this }}
    where {{ granary.in_partitions() }}
    {%- endif %}

),

totals as (

    select
        product_id,
        {%- for sum in sums %}
        sum({{ sum }}) as {{ sum }}{{ ',' if not loop.last }}
        {%- endfor %}
    from changes
    group by product_id
    having sum(line_count) <> 0

)

select
    totals.product_id,
    (
        select min(sales.business_date) from {{ ref('fct_sales') }} as sales where sales.product_id = totals.product_id
    ) as first_sold_date,
    (
        select max(sales.business_date) from {{ ref('fct_sales') }} as sales where sales.product_id = totals.product_id
    ) as last_sold_date,
    cast(totals.line_count as integer) as line_count,
    cast(totals.piece_line_count as integer) as piece_line_count,
    cast(totals.item_count as bigint) as item_count,
    cast(totals.household_count as integer) as household_count,
    cast(totals.store_count as integer) as store_count,
    cast(totals.sales_value as numeric(12, 2)) as sales_value,
    cast(totals.regular_value as numeric(12, 2)) as regular_value,
    cast(totals.retail_disc as numeric(12, 2)) as retail_disc
from totals
