{#-
    Audited before visible: the post-hook of every mart. It runs the blocking tests of the model, in one statement, inside
    the transaction that built it; one failure raises, the transaction rolls back, and readers keep the last good table.
    After an increment it looks only at the partitions that were just written. What passed is recorded in ops.model_audits,
    in the same transaction.
-#}
{% macro audit() -%}
    {%- set tests = granary.audit_tests(model) if execute else [] -%}
    {%- if tests -%}
        {%- set scope = 'new' if is_incremental() and 'partition_by' in model.config.meta else 'all' -%}
        {%- set queries, passed = [], [] -%}
        {%- for test in tests -%}
            {%- do queries.append(
                'select ' ~ loop.index ~ ' as place, counted.* from (' ~ granary.audit_query(test, model, scope) ~ ') as counted') -%}
        {%- endfor -%}
        {#- A model may forbid hashing for its own query only; and each count, not the list of them, is for all processors. -#}
        {%- set counted = run_query('reset enable_hashagg; set local enable_parallel_append = off; ' ~ queries | join(' union all ') ~ ' order by place').rows -%}
        {%- for test in tests -%}
            {%- set failures = counted[loop.index0][1] or 0 -%}
            {%- if counted[loop.index0][2] -%}
                {{ exceptions.raise_compiler_error(
                    'audit: ' ~ test.name ~ ': ' ~ failures ~ ' rows failed in ' ~ granary.published_schema() ~ '.' ~ this.identifier
                    ~ '; nothing was published.' ~ granary.loads_at_fault(test, model, scope)) }}
            {%- endif -%}
            {%- do passed.append("('" ~ test.name ~ "', " ~ failures ~ ')') -%}
        {%- endfor %}
        insert into ops.model_audits (invocation_id, test, model, scope, failures)
        select '{{ invocation_id }}', test, '{{ granary.watermark_name() }}', '{{ scope }}', failures
        from (values {{ passed | join(', ') }}) as passed (test, failures)
    {%- endif -%}
{%- endmacro %}

{#- The generic tests of severity error that are attached to the node and refer to nothing that is built after it. -#}
{% macro audit_tests(node) -%}
    {%- set upstream, found = [node.unique_id], [] -%}
    {%- for id in upstream -%}
        {%- do upstream.extend((graph.nodes.get(id) or {}).get('depends_on', {}).get('nodes', []) | reject('in', upstream)) -%}
    {%- endfor -%}
    {%- for test in graph.nodes.values() if test.attached_node == node.unique_id and granary.blocks(test)
        and not test.depends_on.nodes | reject('in', upstream) | list -%}
        {%- do found.append(test) -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}

{% macro blocks(test) -%}
    {{ return(test.resource_type == 'test' and test.config.enabled and test.config.severity | lower == 'error') }}
{%- endmacro %}

{#- Of a model that keeps its rows' loads, the newest ones that fail a test by themselves, for people. -#}
{% macro loads_at_fault(test, node, scope) -%}
    {%- if 'load_id' not in node.columns -%}{{ return('') }}{%- endif -%}
    {%- set found = [] -%}
    {%- for row in run_query(
        'select load_id, unit from ops.load_audit where load_id in (select load_id from ' ~ this
        ~ ') order by load_id desc limit 20').rows if found | length < 3 -%}
        {%- if run_query(granary.audit_query(test, node, scope, 'load_id = ' ~ row[0])).rows[0][1] -%}
            {%- do found.append(row[1] ~ ' (load ' ~ row[0] ~ ')') -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(' They are of ' ~ found | join(', ') ~ '.' if found else '') }}
{%- endmacro %}

{#- The query of a generic test on the table that the current transaction is building. -#}
{% macro audit_query(test, node, scope, only=none) -%}
    {%- set conditions = [only] if only else [] -%}
    {%- if test.config.where -%}{%- do conditions.append('(' ~ test.config.where ~ ')') -%}{%- endif -%}
    {%- if scope == 'new' -%}
        {%- do conditions.append(granary.of_latest_version(node)) -%}
    {%- endif -%}
    {%- set arguments = {} -%}
    {%- for key, value in test.test_metadata.kwargs.items() if key != 'model' -%}
        {%- if value is string and value.startswith('ref(') -%}
            {%- do arguments.update({key: granary.relation_of(value)}) -%}
        {%- else -%}
            {%- do arguments.update({key: render(value) if value is string else value}) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do arguments.update({'model': granary.rows_where(this, conditions)}) -%}
    {%- set package = context[test.test_metadata.namespace] if test.test_metadata.namespace else context -%}
    select {{ test.config.fail_calc }} as failures, {{ test.config.fail_calc }} {{ test.config.error_if }} as should_error
    from (
        {{ package['test_' ~ test.test_metadata.name](**arguments) }}
    ) as dbt_internal_test
{%- endmacro %}

{#- The rows of a relation that meet all of the conditions, in the form that dbt gives them to generic tests. -#}
{% macro rows_where(relation, conditions) -%}
    {{ return('(select * from ' ~ relation ~ ' where ' ~ conditions | join(' and ') ~ ') dbt_subquery' if conditions else relation) }}
{%- endmacro %}

{#- "ref('dim_store')", as a test's argument has it, to the relation. -#}
{% macro relation_of(reference) -%}
    {{ return(granary.node_relation(granary.node_named((reference | replace('"', "'")).split("'")[-2]))) }}
{%- endmacro %}

{#- A model, seed or snapshot of the project or of a package: no two have one name. -#}
{% macro node_named(name) -%}
    {%- for node in graph.nodes.values() if node.name == name and node.resource_type in ('model', 'seed', 'snapshot') -%}
        {{ return(node) }}
    {%- endfor -%}
{%- endmacro %}

{% macro node_relation(node) -%}
    {{ return(api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias)) }}
{%- endmacro %}

{#-
    What the audit of this same invocation has proved, on rows that nothing has touched since, is not computed again: the
    test reports the audit's record. An increment's audit covers the new partitions, so it serves only tests of that scope.
    The test's own statement asks for the record: the server does not start what is below a condition that is false.
-#}
{% macro postgres__get_test_sql(main_sql, fail_calc, warn_if, error_if, limit) -%}
    {%- set node = graph.nodes.get(model.attached_node) if execute and model.test_metadata else none -%}
    {%- set own = default__get_test_sql(main_sql, fail_calc, warn_if, error_if, limit) -%}
    {%- if not node or not granary.is_built_apart(node) or not granary.blocks(model) -%}
    {{ own }}
    {%- else -%}
    {%- set unproved = '(select count(*) from proved) = 0' -%}
    with proved as (
        select failures
        from ops.model_audits
        where invocation_id = '{{ invocation_id }}' and test = '{{ model.name }}'
        {%- if var('test_scope') != 'new' %} and scope = 'all'{% endif %}
    )
    select failures, failures {{ warn_if }} as should_warn, failures {{ error_if }} as should_error from proved
    union all
    {{ own }} where {{ unproved }} having {{ unproved }}
    {%- endif -%}
{%- endmacro %}
