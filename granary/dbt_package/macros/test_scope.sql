{#-
    The var test_scope: 'all', or 'new' for the partitions that an incremental model wrote last, unless that was all of it.
-#}

{#- Whether tests of the node are to look at its latest publish only. -#}
{% macro default__tests_only_latest_publish(node) -%}
    {%- if not execute or var('test_scope') != 'new' or not node or 'partition_by' not in node.config.meta -%}
        {{ return(false) }}
    {%- endif -%}
    {%- set is_mart = flags.WHICH != 'test' and granary.is_built_apart(node) -%}
    {{ return(run_query("select ops.is_tested_by_partition('" ~ granary.full_name(node)
        ~ "', '" ~ granary.published_schema() ~ "', " ~ is_mart ~ ')').rows[0][0]) }}
{%- endmacro %}

{#- A condition for the rows of the partitions in which the latest version of a node differs from the one before. -#}
{% macro of_latest_version(node, columns=none) -%}
    ({{ columns or granary.partition_columns(node) | join(', ') }}) in ({{ granary.published_partitions(node) }})
{%- endmacro %}

{#-
    For a condition of a singular test: `and <column> is of what changed last`, or nothing. `changed`: by model, the
    expression of its rows that says which values of `column` they are about. `sample`: of these values one in so many,
    others after each build, where all of them would cost as much as all of history.
-#}
{% macro and_of_latest_publish(changed, column, sample=1) -%}
    {%- set queries = [] -%}
    {%- for name, value in changed.items() if granary.tests_only_latest_publish(granary.node_named(name)) -%}
        {%- do queries.append(granary.published_partitions(granary.node_named(name), value)) -%}
    {%- endfor -%}
    {%- if queries | length == changed | length -%}
    and {{ column }} = any(array(
        select value from ({{ queries | join(' union ') }}) as changed (value)
        where mod(abs(hashtext(cast(value as text))), {{ sample }}) = mod((select max(version) from ops.model_versions), {{ sample }})
    ))
    {%- endif -%}
{%- endmacro %}

{#-
    The same for a column of loads: those that the model had not seen before, and whose rows are in raw. Without a model, of a
    test that needs none to be built: those that no whole build has seen.
-#}
{% macro and_of_new_loads(model_name, source_name, column) -%}
    {%- set node = granary.node_named(model_name) if model_name else none -%}
    {%- if granary.tests_only_latest_publish(node) -%}
    and {{ column }} > (select ops.load_seen_before('{{ source_name }}', '{{ granary.full_name(node) }}'))
    {%- elif execute and not model_name and var('test_scope') == 'new' -%}
    and {{ column }} > (select ops.load_seen_before('{{ source_name }}'))
    {%- endif %}
    {{ granary.and_not_archived(source_name, column) }}
{%- endmacro %}

{#-
    dbt's own, for generic tests: the rows of the model that the test looks at; of a source, those of loads that a reader has
    not seen before, if the test's `meta` says `new_loads` (not for uniqueness, unless a reader has the key in an index).
-#}
{% macro postgres__get_where_subquery(relation) -%}
    {%- set node = graph.nodes.get(model.attached_node) if execute and model.attached_node else none -%}
    {%- set conditions = ['(' ~ config.get('where') ~ ')'] if config.get('where') else [] -%}
    {%- if granary.tests_only_latest_publish(node) -%}
        {%- do conditions.append(granary.of_latest_version(node)) -%}
    {%- elif execute and var('test_scope') == 'new' and model.config.meta.get('new_loads') -%}
        {%- do conditions.append("_load_id > (select ops.load_seen_before('" ~ model.sources[0][0] ~ "'))") -%}
    {%- endif -%}
    {{ return(granary.rows_where(relation, conditions)) }}
{%- endmacro %}
