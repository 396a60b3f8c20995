{#- The schema that analysts read. Marts are built in another one, which is closed to them. -#}
{% macro published_schema() -%}
    {{ return(generate_schema_name('marts', none)) }}
{%- endmacro %}

{#- Whether a model or seed is built in the schema `build`, and published from there. -#}
{% macro is_built_apart(node) -%}
    {{ return(node.config.schema == 'build') }}
{%- endmacro %}

{#- The models and seeds that are marts, by name. -#}
{% macro marts() -%}
    {%- set found = {} -%}
    {%- for node in graph.nodes.values() if node.resource_type in ('model', 'seed') -%}
        {%- if granary.is_built_apart(node) and node.config.materialized != 'ephemeral' -%}
            {%- do found.update({node.alias: node}) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}

{#- Post-hook of the marts: what this build has written is to be published. It is forgotten if the build rolls back. -#}
{% macro record_unpublished() -%}
    insert into ops.unpublished (schema_name, mart, partition, invocation_id)
    {%- if is_incremental() and granary.increment() %}
    -- Even if no row differs, grants, tiers and comments may.
    values ('{{ granary.published_schema() }}', '{{ this.identifier }}', '', '{{ invocation_id }}')
    union
    select '{{ granary.published_schema() }}', '{{ this.identifier }}', {{ granary.partition_text(model) }}, '{{ invocation_id }}'
    from {{ granary.delta(model) }}
    where version = (
        select max(version) from ops.model_versions
        where model = '{{ granary.watermark_name() }}' and invocation_id = '{{ invocation_id }}'
    )
    {%- else %}
    values ('{{ granary.published_schema() }}', '{{ this.identifier }}', null, '{{ invocation_id }}')
    {%- endif %}
{%- endmacro %}

{#- A partition as ops.unpublished knows it: its value, or those of its columns as a JSON array. -#}
{% macro partition_text(node) -%}
    {%- set columns = granary.partition_columns(node) -%}
    cast({{ columns[0] if columns | length == 1 else 'jsonb_build_array(' ~ columns | join(', ') ~ ')' }} as text)
{%- endmacro %}
