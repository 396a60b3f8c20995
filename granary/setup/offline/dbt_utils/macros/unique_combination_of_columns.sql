{#- Fails with each combination that more than one row has; nulls are equal to each other here. -#}
{% test unique_combination_of_columns(model, combination_of_columns, quote_columns=false) %}
    {%- set columns = [] -%}
    {%- for column in combination_of_columns -%}
        {%- do columns.append(adapter.quote(column) if quote_columns else column) -%}
    {%- endfor -%}
    {%- set key = columns | join(', ') %}
    select {{ key }} from {{ model }} group by {{ key }} having count(*) > 1
{% endtest %}
