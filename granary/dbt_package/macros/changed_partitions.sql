{#-
    A query for the partitions that a model of that name must overwrite: those that its log says have changed since its
    previous watermark.
-#}
{% macro changed_partitions(log, partition, name, watermarks='ops.model_watermarks') -%}
    select log.{{ partition }}
    from {{ log }} as log
    inner join {{ watermarks }} as seen
        on log.source = seen.source and seen.model = '{{ name }}' and log.load_id > seen.previous_load_id
{%- endmacro %}

{#-
    The condition of an incremental model for rows of the partitions that it overwrites; all rows, if it is built in full.
    With the table that they come from, only its loads that may hold such rows are read: those that the log knows, and any
    that arrived after it was written.
-#}
{% macro in_changed_partitions(log, partition, source_name=none, table_name=none) -%}
    {%- do source('ops', 'model_watermarks') -%} {#- seen by dbt although a first parse is not incremental -#}
    {%- if not is_incremental() -%}
    true
    {%- else -%}
    {%- if table_name -%}
    load_id = any(array(
        select arrived.load_id
        from {{ log }} as arrived
        where arrived.reason = 'arrived' and {{ granary.in_logged_partitions(log, partition, 'arrived.' ~ partition) }}
        union all
        {{ granary.loads_not_logged(source_name, table_name) }}
    ))
    and {% endif -%}
    {{ granary.in_logged_partitions(log, partition, partition) }}
    {%- endif -%}
{%- endmacro %}

{#- As in_partitions; a unit test, which overwrites nothing, asks the log. -#}
{% macro in_logged_partitions(log, partition, column) -%}
    {%- if granary.increment() -%}
    {{ granary.in_partitions(column) }}
    {%- else -%}
    {{ column }} = any(array(
        {{ granary.changed_partitions(log, partition, granary.watermark_name(), source('ops', 'model_watermarks')) }}
    ))
    {%- endif -%}
{%- endmacro %}

{% macro default__loads_not_logged(source_name, table_name) -%}
    select loads.load_id
    from {{ source('ops', 'load_audit') }} as loads
    inner join {{ source('ops', 'model_watermarks') }} as seen
        on loads.source = seen.source and seen.model = '{{ granary.watermark_name() }}' and loads.load_id > seen.load_id
    where loads.source = '{{ source_name }}' and loads.table_name = '{{ table_name }}'
{%- endmacro %}

{#-
    The partition that a moment is in. A project whose models overwrite by something else than the day, such as its weeks,
    says so in a macro `default__partition_of` of its own.
-#}
{% macro partition_of(partition, moment) -%}
    {{ adapter.dispatch('partition_of', 'granary')(partition, moment) }}
{%- endmacro %}

{% macro default__partition_of(partition, moment) -%}
    cast({{ moment }} as date)
{%- endmacro %}
