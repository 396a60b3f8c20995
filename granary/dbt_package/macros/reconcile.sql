{#-
    A query for the loads that still count and do not have as many rows in raw as the ledger says, and for rows in raw that
    are of no such load. `tables`: (source, table, incremental model that reads it, or none). Not for tables that take a row
    by its key: their loads share rows with others. After an increment a large table is counted where it is new; of its
    earlier loads each must have a row.
-#}
{% macro ledger_differences(tables, keyed=false) -%}
    {%- do source('ops', 'load_audit') -%}
    {%- set described = [] -%}
    {%- for source_name, table_name, model_name in tables -%}
        {%- set node = granary.node_named(model_name) if execute and model_name else none -%}
        {%- do described.append({
            'source': source_name,
            'table': table_name,
            'relation': source(source_name, table_name) | string,
            'model': node.schema ~ '.' ~ node.alias if granary.tests_only_latest_publish(node) else none,
            'keyed': keyed,
        }) -%}
    {%- endfor -%}
    select * from ops.ledger_differences({{ granary.quoted(tojson(described)) }}, {{ var('counted_bytes') }})
{%- endmacro %}

{#- The loads that have more rows in raw than they brought, or that the ledger does not know: for tables that keep a row once. -#}
{% macro rows_without_their_load(source_name, table_name, model_name) -%}
    {{ granary.ledger_differences([(source_name, table_name, model_name)], keyed=true) }}
{%- endmacro %}
