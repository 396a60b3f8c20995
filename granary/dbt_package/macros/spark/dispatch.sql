{#- Macros of the engine that Spark has otherwise: on Postgres they are those named default__ beside this folder. -#}

{% macro increment() -%}
    {{ return(adapter.dispatch('increment', 'granary')()) }}
{%- endmacro %}

{% macro should_full_refresh() -%}
    {{ return(adapter.dispatch('should_full_refresh', 'granary')()) }}
{%- endmacro %}

{% macro start_run() -%}
    {{ adapter.dispatch('start_run', 'granary')() }}
{%- endmacro %}

{% macro finish_run(results) -%}
    {{ adapter.dispatch('finish_run', 'granary')(results) }}
{%- endmacro %}

{% macro record_unpublished() -%}
    {{ adapter.dispatch('record_unpublished', 'granary')() }}
{%- endmacro %}

{% macro log_changes(relation, partition, source_name, moment=none, versions={}, versions_source=none) -%}
    {{ adapter.dispatch('log_changes', 'granary')(relation, partition, source_name, moment, versions, versions_source) }}
{%- endmacro %}

{% macro unseen_loads(source_name, column='load_id') -%}
    {{ adapter.dispatch('unseen_loads', 'granary')(source_name, column) }}
{%- endmacro %}

{% macro loads_not_logged(source_name, table_name) -%}
    {{ adapter.dispatch('loads_not_logged', 'granary')(source_name, table_name) }}
{%- endmacro %}

{% macro ledger_differences(tables, keyed=false) -%}
    {{ adapter.dispatch('ledger_differences', 'granary')(tables, keyed) }}
{%- endmacro %}

{% macro schema_name(custom_schema_name) -%}
    {{ adapter.dispatch('schema_name', 'granary')(custom_schema_name) }}
{%- endmacro %}

{% macro tests_only_latest_publish(node) -%}
    {{ return(adapter.dispatch('tests_only_latest_publish', 'granary')(node)) }}
{%- endmacro %}

{% macro and_not_archived(source_name, column) -%}
    {{ adapter.dispatch('and_not_archived', 'granary')(source_name, column) }}
{%- endmacro %}
