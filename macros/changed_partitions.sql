{#-
    A query for the partitions that a model must overwrite, or overwrote last: those that changed since its previous
    watermark, and those that were asked for.
-#}
{% macro changed_partitions(log, partition, name, watermarks) -%}
    select log.{{ partition }}
    from {{ log }} as log
    inner join {{ watermarks }} as seen
        on log.source = seen.source and seen.model = '{{ name }}' and log.load_id > seen.previous_load_id
    {%- if var('from_date') and var('to_date') %}
    union
    {{ requested_partitions(partition) }}
    {%- endif %}
{%- endmacro %}

{#-
    The condition of an incremental model for rows of the partitions that it overwrites; all rows, if it is built in full.
    With the table that they come from, only its loads that may hold such rows are read.
-#}
{% macro in_changed_partitions(log, partition, source_name=none, table_name=none) -%}
    {%- set seen = source('ops', 'model_watermarks') -%}
    {%- if not is_incremental() -%}
    true
    {%- else -%}
    {%- if table_name -%}
    load_id = any(array({{ loads_of_changed_partitions(log, partition, source_name, table_name) }}))
    and {% endif -%}
    {{ partition }} = any(array({{ changed_partitions(log, partition, watermark_name(), seen) }}))
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
            {{ changed_partitions(log, partition, watermark_name(), source('ops', 'model_watermarks')) }}
        )
    union all
    {{ loads_not_logged(source_name, table_name) }}
{%- endmacro %}

{% macro loads_not_logged(source_name, table_name) -%}
    select loads.load_id
    from {{ source('ops', 'load_audit') }} as loads
    inner join {{ source('ops', 'model_watermarks') }} as seen
        on loads.source = seen.source and seen.model = '{{ watermark_name() }}' and loads.load_id > seen.load_id
    where loads.source = '{{ source_name }}' and loads.table_name = '{{ table_name }}'
{%- endmacro %}

{#- The window of the vars from_date and to_date, as days or as the retailer's weeks. -#}
{% macro requested_partitions(partition) -%}
    {%- set days -%}
    generate_series(date '{{ var("from_date") }}', date '{{ var("to_date") }}', interval '1 day')
    {%- endset -%}
    {%- if partition == 'week' -%}
    select {{ retailer_week('days.day_at') }} as week from {{ days }} as days (day_at)
    {%- else -%}
    select cast(days.day_at as date) as {{ partition }} from {{ days }} as days (day_at)
    {%- endif -%}
{%- endmacro %}

{#- changed_partitions of a node with meta.changes: what it publishes now, or published last. -#}
{% macro published_partitions(node) -%}
    {%- set log = graph.nodes['model.' ~ project_name ~ '.' ~ node.config.meta['changes']] -%}
    {%- set watermarks = graph.sources['source.' ~ project_name ~ '.ops.model_watermarks'] -%}
    {{ changed_partitions(
        api.Relation.create(database=log.database, schema=log.schema, identifier=log.alias),
        node.config.unique_key,
        node.schema ~ '.' ~ node.alias,
        api.Relation.create(
            database=watermarks.database, schema=watermarks.schema, identifier=watermarks.identifier
        )
    ) }}
{%- endmacro %}
