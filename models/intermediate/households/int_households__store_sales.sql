{{
    config(
        materialized='incremental',
        incremental_strategy='overwrite_partitions',
        meta={
            'partition_by': ['household_id', 'store_id'],
            'changed_by': {'fct_baskets': 'household_id, store_id'},
            'depends_on_vars': ['as_of'],
        },
    )
}}

{% set counts = "business_date < date '" ~ var('as_of') ~ "'" if var('as_of') else 'true' %}

with

changes as (

    select
        household_id,
        store_id,
        sign as all_basket_count,
        case when {{ counts }} then sign else 0 end as basket_count,
        case when {{ counts }} then sign * sales_value else 0 end as sales_value
    from {{ granary.changed_rows(ref('fct_baskets')) }} as changed
    {%- if is_incremental() %}

    union all

    select
        household_id,
        store_id,
        all_basket_count,
        basket_count,
        sales_value
    from {{ this }}
    where {{ granary.in_partitions() }}
    {%- endif %}

)

select
    household_id,
    store_id,
    cast(sum(basket_count) as integer) as basket_count,
    cast(sum(sales_value) as numeric(12, 2)) as sales_value,
    cast(sum(all_basket_count) as integer) as all_basket_count
from changes
group by household_id, store_id
having sum(all_basket_count) <> 0
