{{
    config(
        materialized='incremental',
        incremental_strategy='append',
        on_schema_change='fail',
        pre_hook=[
            "{{ granary.advance_watermark({'pos': [source('ops', 'load_audit')]}) }}",
            "{% if is_incremental() %}delete from {{ this }} where load_id in (select ops.erased_loads('{{ granary.watermark_name() }}', 'pos')){% endif %}",
        ],
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

-- Of the stores all, not only the unknown ones: the CRM may know one today and not tomorrow, and has no history of it.
mentioned as (

    select
        sold.load_id,
        case when products.product_id is null then sold.product_id end as product_id,
        case when households.household_id is null then sold.household_id end as household_id,
        sold.store_id,
        count(*) as line_count
    from {{ ref('stg_pos__transactions') }} as sold
    left join {{ ref('stg_crm__products') }} as products on sold.product_id = products.product_id
    left join {{ ref('stg_crm__households') }} as households on sold.household_id = households.household_id
    where
        {{ granary.unseen_loads('pos', 'sold.load_id') }}
        {%- if is_incremental() %}
        -- Loads that an erasure took rows from are looked through again.
        or sold.load_id in (select ops.erased_loads('{{ granary.watermark_name() }}', 'pos'))
        {%- endif %}
    group by
        sold.load_id,
        case when products.product_id is null then sold.product_id end,
        case when households.household_id is null then sold.household_id end,
        sold.store_id

),

members as (

    {% for entity in ['product', 'household', 'store'] %}
    select
        load_id,
        '{{ entity }}' as entity,
        {{ entity }}_id as entity_id,
        line_count
    from mentioned
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
    cast(sum(line_count) as bigint) as line_count
from members
group by load_id, entity, entity_id
