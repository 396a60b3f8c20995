{#- Local, prod: the folder's schema as it is (marts). Dev, ci: prefixed for the developer or job (dev_ada_marts). -#}
{% macro default__schema_name(custom_schema_name) -%}
    {%- if custom_schema_name is none -%}
        {{ target.schema }}
    {%- elif target.name in ('dev', 'ci') -%}
        {{ target.schema }}_{{ custom_schema_name | trim }}
    {%- else -%}
        {{ custom_schema_name | trim }}
    {%- endif -%}
{%- endmacro %}
