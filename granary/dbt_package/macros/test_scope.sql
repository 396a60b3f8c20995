{#-
    The var test_scope. With 'all' data tests look at whole tables; with 'new' at the partitions that an incremental fact
    published last, unless that was all of it.
-#}

{#- Whether tests of the node are to look at its latest publish only. -#}
{% macro tests_only_latest_publish(node) -%}
    {%- if not execute or var('test_scope') != 'new' or not node or 'partition_by' not in node.config.meta -%}
        {{ return(false) }}
    {%- endif -%}
    {{ return(run_query(
        "select 1 from ops.model_versions where model = '" ~ node.schema ~ '.' ~ node.alias
        ~ "' having not bool_or(is_whole) filter (where version = (select max(version) from ops.model_versions where model = '"
        ~ node.schema ~ '.' ~ node.alias ~ "'))").rows | length > 0) }}
{%- endmacro %}

{#- A condition for the rows of the partitions in which the latest version of a node differs from the one before. -#}
{% macro of_latest_version(node, columns=none) -%}
    ({{ columns or granary.partition_columns(node) | join(', ') }}) in ({{ granary.published_partitions(node) }})
{%- endmacro %}

{#- For a condition of a singular test: `and <column> is of what the model published last`, or nothing. -#}
{% macro and_of_latest_publish(model_name, column) -%}
    {%- set node = granary.node_named(model_name) if execute else none -%}
    {%- if granary.tests_only_latest_publish(node) -%}
    and {{ granary.of_latest_version(node, column) }}
    {%- endif -%}
{%- endmacro %}

{#- The same for a column of loads: those that the model had not seen before. -#}
{% macro and_of_new_loads(model_name, source_name, column) -%}
    {%- set node = granary.node_named(model_name) if execute else none -%}
    {%- if granary.tests_only_latest_publish(node) -%}
    and {{ column }} > (
        select previous_load_id
        from ops.model_watermarks
        where model = '{{ node.schema }}.{{ node.alias }}' and source = '{{ source_name }}'
    )
    {%- endif -%}
{%- endmacro %}

{#- The same for the loads that hold rows of the partitions that the model published last. -#}
{% macro and_of_loads_behind_latest_publish(model_name, column) -%}
    {%- set node = granary.node_named(model_name) if execute else none -%}
    {%- if granary.tests_only_latest_publish(node) -%}
    {%- set log = granary.relation_of("ref('" ~ node.config.meta['changes'] ~ "')") -%}
    and {{ column }} = any(array(
        select load_id from {{ log }}
        where reason = 'arrived' and {{ node.config.meta['partition_by'] }} in ({{ granary.published_partitions(node) }})
    ))
    {%- endif -%}
{%- endmacro %}

{#- Whether counting a table takes long enough that after an increment only what is new should be counted. -#}
{% macro is_large(relation) -%}
    {%- if not execute or var('test_scope') != 'new' -%}{{ return(false) }}{%- endif -%}
    {{ return(run_query(
        "select 1 where pg_relation_size(to_regclass('" ~ relation ~ "')) > " ~ var('counted_bytes')).rows | length > 0) }}
{%- endmacro %}

{#-
    The loads that a model has seen before its latest publish and that have no row in raw, as (load, rows that it brought).
    Each is looked up by the block range index, which the planner, who thinks that a load's rows lie anywhere, would not do.
-#}
{% macro loads_without_rows(model_name, source_name, table_name) -%}
    {%- set node = granary.node_named(model_name) if execute else none -%}
    {%- if not granary.tests_only_latest_publish(node) -%}{{ return([]) }}{%- endif -%}
    {%- do run_query('set enable_seqscan = off') -%}
    {%- set found = run_query(
        "select loads.load_id, loads.rows_loaded from ops.load_audit as loads left join lateral (select 1 as one from "
        ~ source(source_name, table_name) ~ " where _load_id = loads.load_id limit 1) as present on true"
        ~ " where present.one is null and loads.source = '" ~ source_name ~ "' and loads.table_name = '" ~ table_name
        ~ "' and loads.status = 'loaded' and loads.superseded_by is null and loads.rows_loaded > 0"
        ~ " and loads.load_id <= (select previous_load_id from ops.model_watermarks where model = '" ~ node.schema ~ "."
        ~ node.alias ~ "' and source = '" ~ source_name ~ "') order by loads.load_id") -%}
    {%- do run_query('reset enable_seqscan') -%}
    {{ return(found.rows) }}
{%- endmacro %}

{#- dbt's own, for generic tests: the rows of the model that the test looks at. -#}
{% macro postgres__get_where_subquery(relation) -%}
    {%- set node = graph.nodes.get(model.attached_node) if execute and model.attached_node else none -%}
    {%- set conditions = ['(' ~ config.get('where') ~ ')'] if config.get('where') else [] -%}
    {%- if granary.tests_only_latest_publish(node) -%}
        {%- do conditions.append(granary.of_latest_version(node)) -%}
    {%- endif -%}
    {{ return(granary.rows_where(relation, conditions)) }}
{%- endmacro %}
