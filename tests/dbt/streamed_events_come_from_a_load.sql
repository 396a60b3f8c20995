{{ config(meta={'dagster': {'ref': {'name': 'fct_coupon_redemptions'}}}) }}

-- An event that comes by several channels lands once: a load may have fewer events in raw than it brought, but never
-- more, and no event is of a load that the ledger does not know.
with

raw_loads as (

    select
        _load_id as load_id,
        count(*) as row_count
    from {{ source('events', 'coupon_redemptions') }}
    where true {{ and_of_new_loads('fct_coupon_redemptions', 'events', '_load_id') }}
    group by _load_id

),

ledger as (

    select
        load_id,
        rows_loaded
    from {{ source('ops', 'load_audit') }}
    where source = 'events' and table_name = 'coupon_redemptions' and status = 'loaded'

)

select
    load_id,
    raw_loads.row_count as raw_count,
    ledger.rows_loaded as ledger_count
from raw_loads
left join ledger using (load_id)
where ledger.rows_loaded is null or raw_loads.row_count > ledger.rows_loaded
