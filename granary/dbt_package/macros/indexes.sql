{#-
    Indexes, declared once, in the model's `meta.declared_indexes` ({name: ..., columns: [...], unique: true,
    type: brin}). The unique index of the grain has the name of the grain's test, which is then what a violation says. This
    post-hook adds what is missing; the generic test has_declared_indexes checks them against the catalogue.
-#}
{% macro create_declared_indexes() -%}
    {%- if model.config.meta.declared_indexes -%}
    select ops.create_declared_indexes({{ granary.declared_indexes(model) }})
    {%- endif -%}
{%- endmacro %}

{#- The relation of a node, its name and what it declares, as arguments. -#}
{% macro declared_indexes(node) -%}
    '{{ node.relation_name }}', '{{ node.alias }}', {{ granary.as_json(node.config.meta.get('declared_indexes', [])) }}
{%- endmacro %}

{#- The model that a generic test is about: the one that it is attached to, or the one whose audit is running. -#}
{% macro attached_node() -%}
    {{ return(graph.nodes[model.attached_node] if model.resource_type == 'test' and execute else model) }}
{%- endmacro %}
