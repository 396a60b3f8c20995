{#- Every index that the model declares (meta.declared_indexes) is in Postgres' catalogue and valid. -#}
{% test has_declared_indexes(model) %}

select declared.*
from (
    values
    {% for index in granary.declared_indexes(granary.attached_node()) %}
    ('{{ index.name }}', '{{ index.columns | join(", ") }}', '{{ index.type }}', {{ index.unique | lower }}){{ ',' if not loop.last }}
    {% endfor %}
) as declared (name, column_names, method, is_unique)
left join ops.indexes_of('{{ granary.attached_relation() }}') as found
    on
        declared.name = found.name
        and declared.column_names = found.column_names
        and declared.method = found.method
        and declared.is_unique = found.is_unique
where found.name is null

{% endtest %}
