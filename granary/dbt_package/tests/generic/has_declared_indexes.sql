{#- Every index that the model declares (meta.declared_indexes) is in Postgres' catalogue and valid. -#}
{% test has_declared_indexes(model) %}

select missing.*
from ops.missing_indexes({{ granary.declared_indexes(granary.attached_node()) }}) as missing (name)

{% endtest %}
