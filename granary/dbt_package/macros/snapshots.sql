{#- Snapshots keep timestamptz, as updated_at is; dbt's own macro for Postgres returns the time without its zone. -#}
{% macro postgres__snapshot_get_time() -%}
    current_timestamp
{%- endmacro %}

{#- Post-hook of the snapshots: see ops.follow_corrections. -#}
{% macro follow_corrections() -%}
    {%- if execute and model.config.strategy == 'timestamp' -%}
        {%- set key = model.config.unique_key -%}
    select ops.follow_corrections(
        '{{ this }}', '{{ graph.nodes[model.depends_on.nodes[0]].relation_name }}',
        array['{{ ([key] if key is string else key) | join("', '") }}'], '{{ model.config.updated_at }}'
    )
    {%- endif -%}
{%- endmacro %}
