{{ config(materialized='incremental', incremental_strategy='overwrite_partitions') }}

with

stores as (

    select
        store_id,
        false as is_inferred
    from {{ ref('stg_crm__stores') }}

),

-- Stores that sell and that the CRM does not know yet; a replaced load no longer counts.
unknown as (

    select distinct -- a store may be in many loads
        members.entity_id as store_id,
        true as is_inferred
    from {{ ref('int_sales__unknown_members') }} as members
    inner join {{ source('ops', 'load_audit') }} as loads
        on members.load_id = loads.load_id and loads.superseded_by is null
    left join stores on members.entity_id = stores.store_id
    where members.entity = 'store' and stores.store_id is null

)

select
    store_id,
    is_inferred
from stores

union all

select
    store_id,
    is_inferred
from unknown
