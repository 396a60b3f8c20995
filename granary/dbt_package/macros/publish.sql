{#-
    Write, audit, publish: docs/engine/decisions/0016. Here is only described what there is; functions of the server do the
    work: granary/warehouse/migrations/runs.sql and publish.sql.
-#}

{#- On-run-start: check personal data, and hold publishing. dbt rolls its own `set role` back before it runs a hook. -#}
{% macro start_run() -%}
    {%- if execute -%}
    set role {{ target.role }};
    select ops.start_run({{ granary.run_document() }})
    {%- endif -%}
{%- endmacro %}

{#-
    On-run-end: settle what holds publishing, keep how the run ended, then publish what was built and is not published yet.
    dbt runs the statements that a hook returns; each `run_query` before is a transaction of its own.
-#}
{% macro finish_run(results) -%}
    {%- if execute and flags.WHICH != 'freshness' -%}
        {{ granary.publish_script(granary.run_document(results), flags.WHICH != 'test' and var('publish')) }}
    {%- endif -%}
{%- endmacro %}

{#-
    `dbt run-operation publish`: publish what waits, for instance after `dbt build --vars 'publish: false'`. `despite`: the
    names of nodes that hold it and are to be overlooked this once.
-#}
{% macro publish(despite=[]) -%}
    {%- set script = granary.publish_script(granary.run_document(despite=[despite] if despite is string else despite), true) -%}
    {%- if script | trim -%}{%- do run_query(script) -%}{%- endif -%}
{%- endmacro %}

{% macro publish_script(document, publishes) -%}
    {%- do run_query('set role ' ~ target.role) -%}
    {%- do run_query('select ops.end_run(' ~ document ~ ')') -%}
    {%- if publishes -%}
        {%- set plan = fromjson(run_query('select cast(ops.prepare_publish(' ~ document ~ ') as text)').rows[0][0]) -%}
        {%- for words in plan.get('warnings', []) -%}{%- do exceptions.warn(words) -%}{%- endfor -%}
        {%- if plan.get('error') -%}
    select ops.refuse({{ granary.quoted(plan['error']) }})
        {%- elif 'changing' in plan -%}
            {%- for name in plan['changing'] %}
    begin;
    select ops.make_columns_ready('{{ name }}');
    commit;
            {%- endfor %}
    begin;
    select ops.publish({{ document }});
    commit;
    select pg_advisory_unlock(ops.publish_lock('{{ granary.published_schema() }}'))
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{#- The project and the run as one value. `key`: the columns of the unique index that the model declares first. -#}
{% macro run_document(results=none, despite=[]) -%}
    {%- if results is none and not run_query("select to_regprocedure('ops.start_run(jsonb)')").rows[0][0] -%}
        {{ exceptions.raise_compiler_error('this warehouse was not prepared for this engine: run `granary up`, then this again.') }}
    {%- endif -%}
    {%- set nodes, schemas, marts, outcomes = [], [], [], [] -%}
    {%- for id, node in dict(graph.sources, **graph.nodes).items()
        if node.resource_type in ('source', 'model', 'seed', 'snapshot', 'test') -%}
        {%- set columns = {} -%}
        {%- for column in node.columns.values() if node.resource_type != 'test' -%}
            {%- set meta = column.config.meta -%}
            {%- do columns.update({column.name: {
                'personal': meta.get('personal'),
                'not_personal': 'not_personal' in meta,
                'subject': meta.get('subject'),
            } if meta else {}}) -%}
        {%- endfor -%}
        {%- do nodes.append({
            'id': id,
            'name': node.name,
            'kind': node.resource_type,
            'parents': node.get('depends_on', {}).get('nodes', []),
            'schema': node.schema,
            'alias': node.get('alias') or node.get('identifier'),
            'source': node.get('source_name'),
            'is_mart': granary.is_built_apart(node),
            'holds': granary.blocks(node) or node.resource_type in ('model', 'seed', 'snapshot')
                and node.config.enabled and node.config.materialized != 'ephemeral',
            'columns': columns,
            'delta': granary.delta(node) if granary.has_delta(node) else none,
            'is_view': node.config.materialized in ('view', 'ephemeral'),
            'changed_by': node.config.meta.get('changed_by'),
        }) -%}
        {%- if node.resource_type == 'model' -%}{%- do schemas.append(node.schema) -%}{%- endif -%}
    {%- endfor -%}
    {%- for name, node in granary.marts().items() -%}
        {%- set meta, indexes = node.config.meta, granary.declared_indexes(node) -%}
        {%- do marts.append({
            'name': name,
            'node': node.unique_id,
            'key': (indexes | selectattr('unique') | map(attribute='columns') | list + [[]])[0],
            'partition': granary.partition_columns(node) if granary.has_delta(node) else [],
            'ranges': meta.get('range_partitions'),
            'day': meta.get('business_date'),
            'measures': meta.get('measures', []),
            'floor': meta.get('floor', 0.5),
            'grants': node.config.grants,
            'unmasked': meta.get('unmasked', {}),
            'masked': granary.masked_columns(node),
            'indexes': indexes,
        }) -%}
    {%- endfor -%}
    {%- for result in results or [] if result.node -%}
        {%- do outcomes.append({
            'id': result.node.unique_id, 'name': result.node.name, 'status': result.status | string, 'rows': result.failures
        }) -%}
    {%- endfor -%}
    {{ return(granary.quoted(tojson({
        'schema': granary.published_schema(),
        'personal': granary.personal_schema(),
        'build': generate_schema_name('build', none) | trim,
        'invocation': invocation_id,
        'erasing': env_var('GRANARY_ERASING', '') != '',
        'schemas': schemas | unique | list,
        'marts': marts,
        'command': flags.WHICH,
        'empty': flags.EMPTY | default(false, true),
        'despite': despite,
        'selected': selected_resources | list,
        'tiers': var('personal_tiers').keys() | list,
        'subjects': var('data_subjects', {}).keys() | list,
        'nodes': nodes,
        'results': none if results is none else outcomes,
    }))) }}
{%- endmacro %}

{% macro quoted(text) -%}
    '{{ text | replace("'", "''") }}'
{%- endmacro %}
