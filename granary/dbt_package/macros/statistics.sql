{#-
    Renew the planner's statistics of a table that was just built: autovacuum comes minutes later, when what reads the table
    has been built as well, from joins that were planned blindly.
-#}
{% macro analyze_table() -%}
    {%- if config.get('materialized') in ('table', 'incremental') and not (granary.increment() and is_incremental()) -%}
        analyze {{ this }}
    {%- endif -%}
{%- endmacro %}

{#- dbt's own asks information_schema, which takes ten times as long. -#}
{% macro postgres__get_columns_in_relation(relation) -%}
    {{ return(sql_convert_columns_in_relation(run_query("select * from ops.columns_for_dbt('" ~ relation ~ "')"))) }}
{%- endmacro %}
