{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        on_schema_change='fail',
        pre_hook="{{ granary.advance_watermark({'pos': [source('ops', 'load_audit')]}) }}",
    )
}}

with

watermarks as (

    select
        source,
        previous_load_id,
        load_id
    from {{ source('ops', 'model_watermarks') }}
    where model = '{{ granary.watermark_name() }}' and source = 'pos'

),

unknown as (

    select
        sold.load_id,
        case when products.product_id is null then sold.product_id end as product_id,
        case when households.household_id is null then sold.household_id end as household_id,
        case when stores.store_id is null then sold.store_id end as store_id
    from {{ ref('stg_pos__transactions') }} as sold
    left join {{ ref('stg_crm__products') }} as products on sold.product_id = products.product_id
    left join {{ ref('stg_crm__households') }} as households on sold.household_id = households.household_id
    left join {{ ref('stg_crm__stores') }} as stores on sold.store_id = stores.store_id
    where
        {{ granary.unseen_loads('pos', 'sold.load_id') }}
        and (products.product_id is null or households.household_id is null or stores.store_id is null)

),

members as (

    {% for entity in ['product', 'household', 'store'] %}
    select
        load_id,
        '{{ entity }}' as entity,
        {{ entity }}_id as entity_id
    from unknown
    where {{ entity }}_id is not null
    {% if not loop.last %}

    union all

    {% endif %}
    {% endfor %}

)

select
    load_id,
    entity,
    entity_id,
    count(*) as line_count
from members
group by load_id, entity, entity_id
