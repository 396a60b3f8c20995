{#- Post-hook of the marts: of a model with personal columns (meta.personal) analysts may read the others. -#}
{% macro grant_columns() -%}
    {%- set open = model.columns.values() | rejectattr('config.meta.personal', 'defined') | list -%}
    {%- if open | length < model.columns | length -%}
    grant select ({{ open | join(', ', attribute='name') }}) on {{ this }} to analyst
    {%- endif -%}
{%- endmacro %}

{#- On-run-end: analysts may enter the schema of the marts. dbt grants on tables only. -#}
{% macro grant_usage_on_marts(schemas) -%}
    {%- for schema in schemas if schema == generate_schema_name('marts', none) -%}
    set role {{ target.role }};
    grant usage on schema {{ schema }} to analyst
    {%- endfor -%}
{%- endmacro %}
