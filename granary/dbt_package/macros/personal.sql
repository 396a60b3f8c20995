{#-
    Personal data: a column's tier (`config.meta.personal`) says who sees it. A mart with columns to mask is a table in this
    schema behind a view in `marts`: docs/engine/decisions/0022. ops.check_personal looks that no tier is lost.
-#}
{% macro personal_schema() -%}
    {{ return(generate_schema_name('personal', none)) }}
{%- endmacro %}
