{#-
    A query for the partitions that a model must overwrite, or overwrote last: those that changed since its previous
    watermark, and those that were asked for. A model that asks for its own depends on the watermarks.
-#}
{% macro changed_partitions(log, partition, name=none) -%}
    select log.{{ partition }}
    from {{ log }} as log
    inner join {{ 'ops.model_watermarks' if name else source('ops', 'model_watermarks') }} as seen
        on
            log.source = seen.source
            and seen.model = '{{ name or granary.watermark_name() }}'
            and log.load_id > seen.previous_load_id
    {%- if var('from_date') and var('to_date') %}
    union
    {{ granary.requested_partitions(partition) }}
    {%- endif %}
{%- endmacro %}

{#-
    The condition of an incremental model for rows of the partitions that it overwrites; all rows, if it is built in full.
    With the table that they come from, only its loads that may hold such rows are read.
-#}
{% macro in_changed_partitions(log, partition, source_name=none, table_name=none) -%}
    {%- do source('ops', 'model_watermarks') -%} {#- seen by dbt although a first parse is not incremental -#}
    {%- if not is_incremental() -%}
    true
    {%- else -%}
    {%- if table_name -%}
    load_id = any(array({{ granary.loads_of_changed_partitions(log, partition, source_name, table_name) }}))
    and {% endif -%}
    {{ partition }} = any(array({{ granary.changed_partitions(log, partition) }}))
    {%- endif -%}
{%- endmacro %}

{#-
    A query for the loads that may hold rows of the changed partitions: those that the log knows, and any that arrived
    after it was written.
-#}
{% macro loads_of_changed_partitions(log, partition, source_name, table_name) -%}
    select arrived.load_id
    from {{ log }} as arrived
    where
        arrived.reason = 'arrived'
        and arrived.{{ partition }} in (
            {{ granary.changed_partitions(log, partition) }}
        )
    union all
    {{ granary.loads_not_logged(source_name, table_name) }}
{%- endmacro %}

{% macro loads_not_logged(source_name, table_name) -%}
    select loads.load_id
    from {{ source('ops', 'load_audit') }} as loads
    inner join {{ source('ops', 'model_watermarks') }} as seen
        on loads.source = seen.source and seen.model = '{{ granary.watermark_name() }}' and loads.load_id > seen.load_id
    where loads.source = '{{ source_name }}' and loads.table_name = '{{ table_name }}'
{%- endmacro %}

{#- The window of the vars from_date and to_date, as partitions. -#}
{% macro requested_partitions(partition) -%}
    {%- set days -%}
    generate_series(date '{{ var("from_date") }}', date '{{ var("to_date") }}', interval '1 day')
    {%- endset -%}
    select {{ granary.partition_of(partition, 'days.day_at') }} as {{ partition }} from {{ days }} as days (day_at)
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

{#- changed_partitions of a node with meta.changes: what it publishes now, or published last. -#}
{% macro published_partitions(node) -%}
    {%- set log = granary.node_relation(granary.node_named(node.config.meta['changes'])) -%}
    {{ granary.changed_partitions(log, node.config.unique_key, node.schema ~ '.' ~ node.alias) }}
{%- endmacro %}
