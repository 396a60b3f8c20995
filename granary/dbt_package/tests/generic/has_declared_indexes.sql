{#- Every index that the model declares (meta.declared_indexes) is in Postgres' catalogue and valid. -#}
{% test has_declared_indexes(model) %}
{%- set node = granary.attached_node() %}

select declared.*
from (
    values
    {% for index in node.config.meta['declared_indexes'] %}
    (
        '{{ granary.declared_index_name(node.alias, index) }}',
        '{{ index["columns"] | join(", ") }}',
        '{{ index.get("type", "btree") }}',
        {{ index.get('unique', false) | lower }}
    ){{ ',' if not loop.last }}
    {% endfor %}
) as declared (name, column_names, method, is_unique)
left join ({{ granary.indexes_of(granary.attached_relation()) }}) as found
    on
        declared.name = found.name
        and declared.column_names = found.column_names
        and declared.method = found.method
        and declared.is_unique = found.is_unique
where found.name is null

{% endtest %}
