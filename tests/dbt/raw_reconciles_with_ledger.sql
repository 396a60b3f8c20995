{{ config(meta={'dagster': {'ref': {'name': 'stg_pos__transactions'}}}) }}

-- Every load that still counts has as many rows in raw as the ledger says, and raw has no row of any other load. Tables
-- that take a row by its key are left out: their loads share rows with others. After an increment, a large table is
-- counted where it is new; of its earlier loads each must have a row.
{%- set tables = [
    ('pos', 'promotions', 'fct_promotions'),
    ('pos', 'transactions', 'fct_sales'),
    ('marketing', 'coupons', none),
    ('marketing', 'recipients', none),
] %}
{%- set partly = [] %}
{%- for source_name, table_name, fact in tables if fact and is_large(source(source_name, table_name)) %}
    {%- do partly.append(table_name) %}
{%- endfor %}

with

raw_loads as (

    {% for source_name, table_name, fact in tables %}
    select
        '{{ source_name }}' as source,
        '{{ table_name }}' as table_name,
        _load_id as load_id,
        count(*) as row_count
    from {{ source(source_name, table_name) }}
    where true {{ and_of_new_loads(fact, source_name, '_load_id') if table_name in partly }}
    group by _load_id
    {% if not loop.last %}

    union all

    {% endif %}
    {% endfor %}

),

ledger as (

    {% for source_name, table_name, fact in tables %}
    select
        source,
        table_name,
        load_id,
        rows_loaded as row_count
    from {{ source('ops', 'load_audit') }}
    where
        source = '{{ source_name }}' and table_name = '{{ table_name }}'
        and status = 'loaded' and superseded_by is null
        and rows_loaded > 0 {{ and_of_new_loads(fact, source_name, 'load_id') if table_name in partly }}
    {% if not loop.last %}

    union all

    {% endif %}
    {% endfor %}

)

select
    source,
    table_name,
    load_id,
    ledger.row_count as ledger_count,
    raw_loads.row_count as raw_count
from ledger
full outer join raw_loads using (source, table_name, load_id)
where ledger.row_count is distinct from raw_loads.row_count
{%- for source_name, table_name, fact in tables if table_name in partly %}
    {%- for load_id, row_count in loads_without_rows(fact, source_name, table_name) %}

union all

select
    '{{ source_name }}' as source,
    '{{ table_name }}' as table_name,
    {{ load_id }} as load_id,
    {{ row_count }} as ledger_count,
    0 as raw_count
    {%- endfor %}
{%- endfor %}
