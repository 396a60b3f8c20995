{#- Every index that the model declares (meta.declared_indexes) is in Postgres' catalogue and valid. -#}
{% test has_declared_indexes(model) %}

{% if target.type == 'postgres' %}
select missing.*
from ops.missing_indexes({{ granary.declared_indexes(granary.attached_node()) }}) as missing (name)
{% else %}
select 1 as name where false
{% endif %}

{% endtest %}
