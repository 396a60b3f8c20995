{#- Snapshots keep timestamptz, as updated_at is; dbt's own macro for Postgres returns the time without its zone. -#}
{% macro postgres__snapshot_get_time() -%}
    current_timestamp
{%- endmacro %}

{#-
    Post-hook of the snapshots: a row that the source corrected without a later `updated_at` is not a new version, and dbt
    passes it over. What raw says now replaces what the current version said, as if it had come so at first; so the
    current version is raw's row, whenever a build looked, and in columns that are new as well.
-#}
{% macro follow_corrections() -%}
    {%- if execute and model.config.strategy == 'timestamp' -%}
        {%- set origin = granary.node_relation(graph.nodes[model.depends_on.nodes[0]]) -%}
        {%- set theirs = adapter.get_columns_in_relation(origin) | map(attribute='name') | list -%}
        {%- set columns = [] -%}
        {%- for column in adapter.get_columns_in_relation(this) if column.name in theirs -%}
            {%- do columns.append(adapter.quote(column.name)) -%}
        {%- endfor -%}
        {%- set values = columns | reject('in', ['"load_id"', '"load_row"']) | list -%}
        {%- set key = model.config.unique_key -%}
    update {{ this }} as kept
    set
        {%- for column in columns %}
        {{ column }} = said.{{ column }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ origin }} as said
    where
        {%- for column in ([key] if key is string else key) %}
        kept.{{ column }} = said.{{ column }} and
        {%- endfor %}
        kept.dbt_valid_to is null
        and (said.{{ model.config.updated_at }} > kept.dbt_updated_at) is not true
        and (kept.{{ values | join(', kept.') }}) is distinct from (said.{{ values | join(', said.') }})
    {%- endif -%}
{%- endmacro %}
