{#-
    Personal data. A column says what it is in `config.meta.personal`: one of the tiers of the var `personal_tiers`
    (dbt_project.yml), which says what of such a column is shown to those who may read the mart. The tier compiles:

        schema `personal`   the table of a mart that has columns to mask; for those of the mart's `meta.unmasked`
        schema `marts`      a view of the same name: their real values for those who may read that table, masks for
                            everybody else

    So nobody writes such a view, and who is let in is the table's grants. See docs/engine/decisions/0022. That no tier is
    lost on the way, ops.check_personal looks when a run starts.
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
