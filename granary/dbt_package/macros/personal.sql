{#-
    Personal data: a column's tier (`config.meta.personal`) says who sees it. A mart with columns to mask is a table in the
    schema `personal` behind a view in `marts`: docs/engine/decisions/0022. ops.check_personal looks that no tier is lost.
-#}

{#- The schema of the tables behind masked marts. -#}
{% macro personal_schema() -%}
    {{ return(generate_schema_name('personal', none)) }}
{%- endmacro %}

{#- The names of the columns of a node that only few may read. -#}
{% macro masked_columns(node) -%}
    {%- set found = [] -%}
    {%- for column in node.columns.values() if var('personal_tiers').get(column.config.meta.get('personal')) == 'mask' -%}
        {%- do found.append(column.name) -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}
