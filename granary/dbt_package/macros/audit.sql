{#-
    Audited before visible: the post-hook of every mart. It runs the blocking tests of the model inside the transaction
    that built it (ops.audit); one failure raises, the transaction rolls back, and readers keep the last good table. After
    an increment it looks only at the partitions that were just written.
-#}
{% macro audit() -%}
    {%- set new = is_incremental() and 'partition_by' in model.config.meta -%}
    {%- set latest, tests = [granary.of_latest_version(model)] if new else [], [] -%}
    {%- set found = granary.audit_tests(model) if execute else [] -%}
    {%- for test in found -%}
        {%- do tests.append({
            'name': test.name,
            'query': granary.audit_query(test, latest),
            'of_load': granary.audit_query(test, latest + ['load_id = $1']) if 'load_id' in model.columns else none,
            'fail_calc': test.config.fail_calc,
            'error_if': test.config.error_if,
        }) -%}
    {%- endfor -%}
    {%- if tests -%}
        {%- set problem = run_query('select ops.audit(' ~ granary.as_json({
            'model': granary.watermark_name(),
            'schema': granary.published_schema(),
            'scope': 'new' if new else 'all',
            'invocation': invocation_id,
            'tests': tests,
        }) ~ ')').rows[0][0] -%}
        {%- if problem -%}{{ exceptions.raise_compiler_error(problem) }}{%- endif -%}
        {#- What is proved of rows that nothing touches from here on is not asked again (dbt_granary.py): none failed. -#}
        {%- for test in found if (not new or var('test_scope') == 'new') and test.config.error_if == test.config.warn_if == '!= 0' -%}
            {%- do test.update({'is_proved': true}) -%}
        {%- endfor -%}
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
    {{ return(test.resource_type == 'test' and test.config.severity | lower == 'error') }}
{%- endmacro %}

{#- The query of a generic test on rows of the table that the current transaction is building. -#}
{% macro audit_query(test, conditions) -%}
    {%- set where = ['(' ~ test.config.where ~ ')'] if test.config.where else [] -%}
    {%- set arguments = {} -%}
    {%- for key, value in test.test_metadata.kwargs.items() if key != 'model' -%}
        {%- if value is string and value.startswith('ref(') -%} {#- such as ref('dim_store') -#}
            {%- set named = granary.node_named((value | replace('"', "'")).split("'")[-2]) -%}
            {%- set value = api.Relation.create(database=named.database, schema=named.schema, identifier=named.alias) -%}
        {%- endif -%}
        {%- do arguments.update({key: render(value) if value is string else value}) -%}
    {%- endfor -%}
    {%- do arguments.update({'model': granary.rows_where(this, where + conditions)}) -%}
    {%- set package = context[test.test_metadata.namespace] if test.test_metadata.namespace else context -%}
    {{ return(package['test_' ~ test.test_metadata.name](**arguments)) }}
{%- endmacro %}

{#- The rows of a relation that meet all of the conditions, in the form that dbt gives them to generic tests. -#}
{% macro rows_where(relation, conditions) -%}
    {{ return('(select * from ' ~ relation ~ ' where ' ~ conditions | join(' and ') ~ ') dbt_subquery' if conditions else relation) }}
{%- endmacro %}

{#- A model, seed or snapshot of the project or of a package: no two have one name. -#}
{% macro node_named(name) -%}
    {%- for node in (graph.nodes.values() if execute else []) if node.name == name and node.resource_type in ('model', 'seed', 'snapshot') -%}
        {{ return(node) }}
    {%- endfor -%}
{%- endmacro %}
