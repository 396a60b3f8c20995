{#-
    Audited before visible: the post-hook of every mart. It runs the blocking tests of the model inside the transaction
    that built it; one failure raises, the transaction rolls back, and readers keep the last good table. After an
    increment it looks only at the partitions that were just written. What passed is recorded in ops.model_audits, in the
    same transaction.
-#}
{% macro audit() -%}
    {%- if execute -%}
        {%- set scope = 'new' if is_incremental() and 'partition_by' in model.config.meta else 'all' -%}
        {%- set passed = [] -%}
        {%- for test in granary.audit_tests(model) -%}
            {#- a model may forbid hashing for its own query only -#}
            {%- set result = run_query('reset enable_hashagg; ' ~ granary.audit_query(test, model, scope)) -%}
            {%- set failures = result.rows[0][0] or 0 -%}
            {%- if result.rows[0][1] -%}
                {{ exceptions.raise_compiler_error(
                    'audit: ' ~ test.name ~ ': ' ~ failures ~ ' rows failed in ' ~ granary.published_schema() ~ '.' ~ this.identifier
                    ~ '; nothing was published.' ~ granary.loads_at_fault(test, model, scope)) }}
            {%- endif -%}
            {%- do passed.append("('" ~ test.name ~ "', " ~ failures ~ ')') -%}
        {%- endfor -%}
        {%- if passed %}
        insert into ops.model_audits (invocation_id, test, model, scope, failures)
        select '{{ invocation_id }}', test, '{{ granary.watermark_name() }}', '{{ scope }}', failures
        from (values {{ passed | join(', ') }}) as passed (test, failures)
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{#- The generic tests of severity error that are attached to the node and refer to nothing that is built after it. -#}
{% macro audit_tests(node) -%}
    {%- set upstream = granary.upstream_of(node) -%}
    {%- set found = [] -%}
    {%- for test in graph.nodes.values() if test.resource_type == 'test' -%}
        {%- if test.attached_node == node.unique_id and test.config.enabled and test.config.severity | lower == 'error'
            and test.depends_on.nodes | reject('in', upstream) | list | length == 0 -%}
            {%- do found.append(test) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}

{#- Of a model that keeps its rows' loads, the newest ones that fail a test by themselves, for people. -#}
{% macro loads_at_fault(test, node, scope) -%}
    {%- if 'load_id' not in node.columns -%}{{ return('') }}{%- endif -%}
    {%- set found = [] -%}
    {%- for row in run_query(
        "select built.load_id, loads.unit from (select distinct load_id from " ~ this ~ ") as built inner join ops.load_audit"
        ~ " as loads on built.load_id = loads.load_id order by built.load_id desc limit 20").rows if found | length < 3 -%}
        {%- set failed = run_query(granary.audit_query(test, node, scope, 'load_id = ' ~ row[0])).rows[0] -%}
        {%- if failed[1] -%}{%- do found.append(row[1] ~ ' (load ' ~ row[0] ~ ')') -%}{%- endif -%}
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
    {%- if conditions -%}
        {{ return('(select * from ' ~ relation ~ ' where ' ~ conditions | join(' and ') ~ ') dbt_subquery') }}
    {%- else -%}
        {{ return(relation) }}
    {%- endif -%}
{%- endmacro %}

{#- "ref('dim_store')", as a test's argument has it, to the relation. -#}
{% macro relation_of(reference) -%}
    {%- set name = reference | replace('"', "'") -%}
    {{ return(granary.node_relation(granary.node_named(name.split("'")[-2]))) }}
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
-#}
{% macro postgres__get_test_sql(main_sql, fail_calc, warn_if, error_if, limit) -%}
    {%- set record -%}
        select failures
        from ops.model_audits
        where invocation_id = '{{ invocation_id }}' and test = '{{ model.name }}'
        {%- if var('test_scope') != 'new' %} and scope = 'all'{% endif %}
    {%- endset -%}
    {%- set is_attached = model.attached_node and model.test_metadata -%}
    {%- if is_attached and run_query(record).rows | length == 1 -%}
    select
        failures,
        failures {{ warn_if }} as should_warn,
        failures {{ error_if }} as should_error
    from ({{ record }}) as audited
    {%- else -%}
    {{ default__get_test_sql(main_sql, fail_calc, warn_if, error_if, limit) }}
    {%- endif -%}
{%- endmacro %}

{#- On-run-start: the record of what audits proved. dbt rolls its own `set role` back before it runs such a hook. -#}
{% macro create_audit_record() -%}
    set role {{ target.role }};
    create table if not exists ops.model_audits (
        invocation_id text not null,
        test text not null,
        model text not null,
        scope text not null check (scope in ('all', 'new')),
        failures bigint not null,
        audited_at timestamptz not null default clock_timestamp(),
        primary key (invocation_id, test)
    )
{%- endmacro %}
