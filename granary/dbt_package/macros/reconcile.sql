{#- Raw tables and the ledger: what the project's own tests of them are made of. -#}

{#-
    A query for the loads that still count and do not have as many rows in raw as the ledger says, and for rows in raw that
    are of no such load. `tables`: (source, table, incremental model that reads it, or none). Not for tables that take a row
    by its key: their loads share rows with others. After an increment a large table is counted where it is new; of its
    earlier loads each must have a row.
-#}
{% macro ledger_differences(tables) -%}
{%- set partly = [] %}
{%- for source_name, table_name, model_name in tables if model_name and granary.is_large(source(source_name, table_name)) %}
    {%- do partly.append(table_name) %}
{%- endfor %}

with

raw_loads as (

    {% for source_name, table_name, model_name in tables %}
    select
        '{{ source_name }}' as source,
        '{{ table_name }}' as table_name,
        _load_id as load_id,
        count(*) as row_count
    from {{ source(source_name, table_name) }}
    where true {{ granary.and_of_new_loads(model_name, source_name, '_load_id') if table_name in partly }}
    group by _load_id
    {% if not loop.last %}

    union all

    {% endif %}
    {% endfor %}

),

ledger as (

    {% for source_name, table_name, model_name in tables %}
    select
        source,
        table_name,
        load_id,
        rows_loaded as row_count
    from {{ source('ops', 'load_audit') }}
    where
        source = '{{ source_name }}' and table_name = '{{ table_name }}'
        and status = 'loaded' and superseded_by is null
        and rows_loaded > 0 {{ granary.and_of_new_loads(model_name, source_name, 'load_id') if table_name in partly }}
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
{%- for source_name, table_name, model_name in tables if table_name in partly %}
    {%- for load_id, row_count in granary.loads_without_rows(model_name, source_name, table_name) %}

union all

select
    '{{ source_name }}' as source,
    '{{ table_name }}' as table_name,
    {{ load_id }} as load_id,
    {{ row_count }} as ledger_count,
    0 as raw_count
    {%- endfor %}
{%- endfor %}
{%- endmacro %}

{#-
    A query for the loads that have more rows in raw than they brought, or that the ledger does not know. For tables that
    keep a row once, however many loads bring it.
-#}
{% macro rows_without_their_load(source_name, table_name, model_name) -%}
with

raw_loads as (

    select
        _load_id as load_id,
        count(*) as row_count
    from {{ source(source_name, table_name) }}
    where true {{ granary.and_of_new_loads(model_name, source_name, '_load_id') }}
    group by _load_id

),

ledger as (

    select
        load_id,
        rows_loaded
    from {{ source('ops', 'load_audit') }}
    where source = '{{ source_name }}' and table_name = '{{ table_name }}' and status = 'loaded'

)

select
    load_id,
    raw_loads.row_count as raw_count,
    ledger.rows_loaded as ledger_count
from raw_loads
left join ledger using (load_id)
where ledger.rows_loaded is null or raw_loads.row_count > ledger.rows_loaded
{%- endmacro %}
