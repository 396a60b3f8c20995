{#- The schema that analysts read. Marts are built in another one, which is closed to them. -#}
{% macro published_schema() -%}
    {{ return(generate_schema_name('marts', none)) }}
{%- endmacro %}

{#- Whether a model or seed is built in the schema `build`, and published from there. -#}
{% macro is_built_apart(node) -%}
    {{ return(node.config.schema == 'build') }}
{%- endmacro %}

{#- Post-hook of the marts: what this build has written is to be published. -#}
{% macro default__record_unpublished() -%}
    select ops.record_unpublished(
        '{{ granary.published_schema() }}', '{{ this.identifier }}', '{{ invocation_id }}',
        {{ granary.as_json(granary.increment() if is_incremental() else none) }}
    )
{%- endmacro %}
