{#- One text key for a list of columns or expressions. A null counts as a value of its own, unless the project sets
    the var that makes it an empty text, as some did with an older release. -#}
{% macro generate_surrogate_key(field_list) -%}
    {%- set empty = var('surrogate_key_treat_nulls_as_empty_strings', false) -%}
    {%- set missing = '' if empty else '_dbt_utils_surrogate_key_null_' -%}
    md5(
    {%- for field in field_list -%}
        {{ " || '-' || " if not loop.first }}coalesce(cast({{ field }} as text), '{{ missing }}')
    {%- endfor -%}
    )
{%- endmacro %}
