{#- dbt looks for these in the project only, not in packages: they pass on what the engine says. -#}

{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ granary.schema_name(custom_schema_name) }}
{%- endmacro %}

{% macro get_incremental_overwrite_partitions_sql(arg_dict) -%}
    {{ return(granary.overwrite_partitions(arg_dict)) }}
{%- endmacro %}

{% macro should_full_refresh() -%}
    {{ return(granary.should_full_refresh()) }}
{%- endmacro %}

{#- On Spark: what hooks ask is for Postgres, a model is written whole whatever its strategy, and history is copied. -#}
{% macro run_hooks(hooks, inside_transaction=true) -%}
    {%- if target.type == 'postgres' -%}{{ dbt.run_hooks(hooks, inside_transaction) }}{%- endif -%}
{%- endmacro %}

{% materialization incremental, adapter='spark' -%}
    {{ return(granary.written_whole()) }}
{%- endmaterialization %}

{% materialization snapshot, adapter='spark' -%}
    {{ return(granary.kept_by_postgres()) }}
{%- endmaterialization %}
