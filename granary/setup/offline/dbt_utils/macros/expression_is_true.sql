{#- Fails with each row for which the expression is false; unknown (null) passes. On a column, the expression goes
    on from the column's name: `expression: ">= 0"`. -#}
{% test expression_is_true(model, expression, column_name=none) %}
    {%- set condition = expression if column_name is none else column_name ~ ' ' ~ expression %}
    select {{ '*' if should_store_failures() else '1' }} from {{ model }} where not ({{ condition }})
{% endtest %}
