{#-
    Renew the planner's statistics of a table that was just built: autovacuum comes minutes later, when what reads the table
    has been built as well, from joins that were planned blindly.
-#}
{% macro analyze_table() -%}
    {%- if config.get('materialized') in ('table', 'incremental') and not (granary.increment() and is_incremental()) -%}
        analyze {{ this }}
    {%- endif -%}
{%- endmacro %}
