{#-
    Indexes, declared once, in the model's `meta.declared_indexes` ({name: ..., columns: [...], unique: true,
    type: brin}). The unique index of the grain has the name of the grain's test, which is then what a violation says. dbt's own `indexes`
    config adds nothing to an incremental table that exists already; this post-hook adds what is missing to every table,
    in the transaction that builds it. The generic test has_declared_indexes checks them against the catalogue.
-#}
{% macro create_declared_indexes() -%}
    {%- for index in config.meta_get('declared_indexes', []) %}
    {%- set name = granary.declared_index_name(this.identifier, index) %}
    {%- if not is_incremental() %}
    -- The name still belongs to the table that this one replaces in this same transaction.
    drop index if exists {{ this.schema }}.{{ name }};
    {%- endif %}
    {{ granary.create_index(index, name, this, 'if not exists') }}
    {%- endfor %}
{%- endmacro %}

{#-
    Create an index that a model declares, on a table that has its rows. Models write these nearly in the order of the
    grain. One process sorts what is sorted in one pass (21 million rows in 5 s); workers each get scattered pages, merge
    what they sorted, and take processors from dbt's threads (6 s on both).
-#}
{% macro create_index(index, name, relation, clause='') -%}
    set local max_parallel_maintenance_workers = 0;
    create {{ 'unique' if index.get('unique') }} index {{ clause }} {{ name }} on {{ relation }}
    using {{ index.get('type', 'btree') }} ({{ index['columns'] | join(', ') }});
{%- endmacro %}

{#- Its own name, or rentals (business_date) -> rentals__business_date -#}
{% macro declared_index_name(table, index) -%}
    {{ index.get('name', table ~ '__' ~ index['columns'] | join('__')) }}
{%- endmacro %}

{#- A query for the valid indexes of a relation, from the catalogue. -#}
{% macro indexes_of(relation) -%}
    select
        names.relname as name,
        methods.amname as method,
        indexes.indisunique as is_unique,
        bool_or(not columns.attnotnull) as is_nullable,
        string_agg(columns.attname, ', ' order by parts.position) as column_names
    from pg_catalog.pg_index as indexes
    inner join pg_catalog.pg_class as names on indexes.indexrelid = names.oid
    inner join pg_catalog.pg_am as methods on names.relam = methods.oid
    cross join lateral unnest(indexes.indkey) with ordinality as parts (number, position)
    inner join pg_catalog.pg_attribute as columns
        on indexes.indrelid = columns.attrelid and parts.number = columns.attnum
    where indexes.indrelid = to_regclass('{{ relation }}') and indexes.indisvalid and indexes.indpred is null
    group by names.relname, methods.amname, indexes.indisunique
{%- endmacro %}

{#- The model that a generic test is about: the one that it is attached to, or the one whose audit is running. -#}
{% macro attached_node() -%}
    {{ return(graph.nodes[model.attached_node] if model.resource_type == 'test' and execute else model) }}
{%- endmacro %}

{% macro attached_relation() -%}
    {%- set node = granary.attached_node() -%}
    {{ return(api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias)) }}
{%- endmacro %}
