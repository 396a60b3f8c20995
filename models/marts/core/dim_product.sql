{{ config(materialized='incremental', incremental_strategy='overwrite_partitions') }}

with

versions as (

    select * from {{ ref('int_crm__product_versions') }}

),

-- Products that are sold or couponed and not in the catalogue; a replaced load no longer counts.
mentioned as (

    select members.entity_id as product_id
    from {{ ref('int_sales__unknown_members') }} as members
    inner join {{ source('ops', 'load_audit') }} as loads
        on members.load_id = loads.load_id and loads.superseded_by is null
    where members.entity = 'product'

    union

    select product_id from {{ ref('stg_marketing__coupons') }}

),

members as (

    select
        product_id,
        manufacturer_id,
        department,
        brand,
        product_category,
        product_type,
        package_size,
        valid_from,
        valid_to,
        is_current,
        false as is_inferred,
        load_id
    from versions

    union all

    select
        mentioned.product_id,
        null as manufacturer_id,
        null as department,
        null as brand,
        null as product_category,
        null as product_type,
        null as package_size,
        timestamptz '1900-01-01 00:00:00+00' as valid_from,
        timestamptz '9999-12-31 00:00:00+00' as valid_to,
        true as is_current,
        true as is_inferred,
        null as load_id
    from mentioned
    left join versions on mentioned.product_id = versions.product_id
    where versions.product_id is null

)

select
    {{ dbt_utils.generate_surrogate_key(['product_id', 'extract(epoch from valid_from)']) }} as product_key,
    product_id,
    manufacturer_id,
    department,
    brand,
    product_category,
    product_type,
    package_size,
    coalesce(product_type = 'GASOLINE-REG UNLEADED', false) as is_fuel,
    valid_from,
    valid_to,
    is_current,
    is_inferred,
    load_id
from members
