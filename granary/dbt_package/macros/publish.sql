{#- Write, audit, publish: docs/engine/decisions/0016. The work: granary/warehouse/migrations/runs.sql and publish.sql. -#}

{#- On-run-start: check personal data, and hold publishing. -#}
{% macro default__start_run() -%}
    {%- if execute -%}
    select ops.start_run({{ granary.run_document() }})
    {%- endif -%}
{%- endmacro %}

{#-
    On-run-end: settle what holds publishing, keep how the run ended, then publish what was built and is not published yet.
    dbt runs the statements that a hook returns; each `run_query` before is a transaction of its own.
-#}
{% macro default__finish_run(results) -%}
    {%- if execute and flags.WHICH != 'freshness' -%}
        {{ granary.publish_script(granary.run_document(results), flags.WHICH != 'test' and var('publish')) }}
    {%- endif -%}
{%- endmacro %}

{#-
    `dbt run-operation publish`: publish what waits, for instance after `dbt build --vars 'publish: false'`. `despite`: the
    names of nodes that hold it and are to be overlooked this once.
-#}
{% macro publish(despite=[]) -%}
    {%- set script = granary.publish_script(granary.run_document(despite=despite), true) -%}
    {%- if script | trim -%}{%- do run_query(script) -%}{%- endif -%}
{%- endmacro %}

{% macro publish_script(document, publishes) -%}
    {%- do run_query('select ops.end_run(' ~ document ~ ')') -%}
    {%- if publishes -%}
        {%- set plan = fromjson(run_query('select cast(ops.publish_script(' ~ document ~ ') as text)').rows[0][0]) -%}
        {%- for words in plan['warnings'] -%}{%- do exceptions.warn(words) -%}{%- endfor -%}
        {{ plan['script'] }}
    {%- endif -%}
{%- endmacro %}

{#- The project and the run as one value, which runs.sql describes. -#}
{% macro run_document(results=none, despite=[]) -%}
    {%- if results is none and not run_query("select to_regprocedure('ops.audit(jsonb)')").rows[0][0] -%}
        {{ exceptions.raise_compiler_error('this warehouse was not prepared for this engine: run `granary up`, then this again.') }}
    {%- endif -%}
    {%- set nodes, outcomes = [], [] -%}
    {%- for node in dict(graph.sources, **graph.nodes).values()
        if node.resource_type in ('source', 'model', 'seed', 'snapshot', 'test') -%}
        {%- do nodes.append(granary.described(node)) -%}
    {%- endfor -%}
    {%- for result in results or [] if result.node -%}
        {%- do outcomes.append({
            'id': result.node.unique_id, 'name': result.node.name, 'status': result.status | string, 'rows': result.failures
        }) -%}
    {%- endfor -%}
    {{ return(granary.as_json({
        'schema': granary.published_schema(),
        'personal': generate_schema_name('personal', none) | trim,
        'build': generate_schema_name('build', none) | trim,
        'invocation': invocation_id,
        'erasing': env_var('GRANARY_ERASING', '') != '',
        'command': flags.WHICH,
        'empty': flags.EMPTY | default(false, true),
        'despite': despite,
        'selected': selected_resources | list,
        'tiers': var('personal_tiers') | list,
        'masks': var('personal_tiers'),
        'subjects': var('data_subjects', {}).keys() | list,
        'nodes': nodes,
        'results': none if results is none else outcomes,
    })) }}
{%- endmacro %}

{% macro described(node) -%}
    {%- set columns = {} -%}
    {%- for column in node.columns.values() -%}{%- do columns.update({column.name: column.config.meta}) -%}{%- endfor -%}
    {{ return({
        'id': node.unique_id,
        'name': node.name,
        'kind': node.resource_type,
        'parents': node.get('depends_on', {}).get('nodes', []),
        'schema': node.schema,
        'alias': node.get('alias') or node.get('identifier'),
        'source': node.get('source_name'),
        'columns': columns,
        'blocks': granary.blocks(node),
        'materialized': node.config.get('materialized'),
        'grain': granary.grain(node) if granary.has_delta(node) else none,
        'partition': granary.partition_columns(node) if granary.has_delta(node) else [],
        'grants': node.config.get('grants'),
        'meta': node.config.meta,
    }) }}
{%- endmacro %}

{#- A value as the functions of the server take it. -#}
{% macro as_json(value) -%}
    '{{ tojson(value) | replace("'", "''") }}'
{%- endmacro %}
