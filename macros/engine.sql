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

{#- On Spark: what a hook asks is for Postgres, whatever strategy a model has there it is written whole, and history comes. -#}
{% macro run_hooks(hooks, inside_transaction=true) -%}
    {%- if target.type == 'postgres' -%}{{ dbt.run_hooks(hooks, inside_transaction) }}{%- endif -%}
{%- endmacro %}

{% macro dbt_spark_validate_get_incremental_strategy(raw_strategy, file_format) -%}
    {{ return('insert_overwrite') }}
{%- endmacro %}

{% materialization snapshot, adapter='spark' -%}
    {{ return(granary.kept_by_postgres()) }}
{%- endmaterialization %}
