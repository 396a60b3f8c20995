{#- The condition is not false of any row. -#}
{% test every_row(model, condition, column_name=none) %}

select *
from {{ model }}
where not ({{ condition }})

{% endtest %}
