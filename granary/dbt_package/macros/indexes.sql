{#-
    Indexes, declared once, in the model's `meta.declared_indexes` ({name: ..., columns: [...], unique: true,
    type: brin}). The unique index of the grain has the name of the grain's test, which is then what a violation says. dbt's
    own `indexes` config adds nothing to an incremental table that exists already; this post-hook adds what is missing, in the
    transaction that builds the table. The generic test has_declared_indexes checks them against the catalogue.
-#}
{% macro create_declared_indexes() -%}
    {%- set indexes = granary.declared_indexes(model) -%}
    {%- if indexes -%}
    {%- if not is_incremental() -%}
    -- The names still belong to the table that this one replaces in this same transaction.
    drop index if exists {{ this.schema }}.{{ indexes | map(attribute='name') | join(', ' ~ this.schema ~ '.') }};
    {%- endif %}
    select ops.create_indexes({{ granary.quoted(tojson({'table': this | string, 'indexes': indexes})) }})
    {%- endif -%}
{%- endmacro %}

{#- What a node declares, in full. Without a name of its own: rentals (business_date) -> rentals__business_date -#}
{% macro declared_indexes(node) -%}
    {%- set found = [] -%}
    {%- for index in node.config.meta.get('declared_indexes', []) -%}
        {%- do found.append({
            'name': index.get('name', node.alias ~ '__' ~ index['columns'] | join('__')),
            'columns': index['columns'],
            'unique': index.get('unique', false),
            'type': index.get('type', 'btree'),
        }) -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}

{#- The model that a generic test is about: the one that it is attached to, or the one whose audit is running. -#}
{% macro attached_node() -%}
    {{ return(graph.nodes[model.attached_node] if model.resource_type == 'test' and execute else model) }}
{%- endmacro %}

{% macro attached_relation() -%}
    {{ return(granary.node_relation(granary.attached_node())) }}
{%- endmacro %}
