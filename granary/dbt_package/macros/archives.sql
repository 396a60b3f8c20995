{#- Raw rows that lie in an archive (docs/engine/archive.md): no model may be built as if they had never been. -#}

{#- Refuse to build all of a model from raw tables of which rows are away; for increments see ops.refuse_archived. -#}
{% macro refuse_archived() -%}
    {%- if execute and model.resource_type in ('model', 'snapshot') and not flags.EMPTY -%}
        {%- set tables = granary.raw_tables_of(model.unique_id) -%}
        {%- if tables -%}
            {%- set away = run_query('select ops.archived_rows(' ~ granary.as_json(tables) ~ ')').rows[0][0] -%}
            {%- if away -%}
                {%- do exceptions.raise_compiler_error(
                    model.name ~ ' is built as a whole, and raw rows that it reads lie in an archive. '
                    ~ 'Bring them back and run this again: ' ~ away
                ) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{#- The raw tables that a node reads, by itself or by views: [[source, table], ...]. -#}
{% macro raw_tables_of(id) -%}
    {%- set found = [] -%}
    {%- for parent in graph.nodes[id].depends_on.nodes -%}
        {%- if parent.startswith('source.') -%}
            {%- set origin = graph.sources[parent] -%}
            {%- if origin.schema.startswith('raw_') -%}{%- do found.append([origin.schema[4:], origin.identifier]) -%}{%- endif -%}
        {%- elif parent in graph.nodes and graph.nodes[parent].config.materialized in ('view', 'ephemeral') -%}
            {%- do found.extend(granary.raw_tables_of(parent)) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}

{#- For a test of loads that compares raw with what was made of it. -#}
{% macro default__and_not_archived(source_name, column) -%}
    and {{ column }} not in (
        select load_id from ops.load_audit where archive_id is not null and source = '{{ source_name }}'
    )
{%- endmacro %}
