{#- Every value of the column is in `field` of `to`: relationships for a big table, joining the few distinct values. -#}
{% test members_known(model, column_name, to, field) %}

select members.{{ column_name }}
from (
    select {{ column_name }}
    from {{ model }}
    group by {{ column_name }}
) as members
where not exists (
    select 1
    from {{ to }} as known
    where known.{{ field }} = members.{{ column_name }}
)

{% endtest %}
