{#-
    See ops.ledger_differences (runs.sql). `tables`: (source, table, incremental model that reads it, or none). Not for tables
    that take a row by its key: their loads share rows.
-#}
{% macro default__ledger_differences(tables, keyed=false) -%}
    {%- do source('ops', 'load_audit') -%}
    {%- set described = [] -%}
    {%- for source_name, table_name, model_name in tables -%}
        {%- set node = granary.node_named(model_name) -%}
        {%- do described.append({
            'source': source_name,
            'table': table_name,
            'relation': source(source_name, table_name) | string,
            'model': granary.full_name(node) if granary.tests_only_latest_publish(node) else none,
            'keyed': keyed,
        }) -%}
    {%- endfor -%}
    select * from ops.ledger_differences({{ granary.as_json(described) }}, {{ var('counted_bytes') }})
{%- endmacro %}
