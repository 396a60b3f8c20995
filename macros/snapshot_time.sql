{#- Snapshots keep timestamptz, as updated_at is; dbt's own macro for Postgres returns the time without its zone. -#}
{% macro postgres__snapshot_get_time() -%}
    current_timestamp
{%- endmacro %}
