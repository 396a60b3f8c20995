{#-
    Write, audit, publish. dbt builds the marts in the schema `build`; what analysts read, in `marts`, are ordinary tables
    that nothing but this step writes: in one transaction for all of them, with insert and delete only, so that readers
    neither wait nor fail nor see one mart before and another after. See docs/engine/decisions/0016. Marts with personal columns
    are such tables in the schema `personal`, behind views in `marts`: personal.sql.
-#}

{#-
    On-run-end: settle what holds publishing, keep how the run ended, then publish what was built and is not published yet.
    dbt runs the statements that a hook returns; each `run_query` before is a transaction of its own (dbt's hooks commit at
    once). A run of which everything succeeded and that may not publish fails all the same: dbt exits with 1.
-#}
{% macro finish_run(results) -%}
    {%- if execute and flags.WHICH != 'freshness' -%}
        {%- do run_query('set role ' ~ target.role) -%}
        {%- set failed = granary.settle_holds(results) -%}
        {%- do granary.release_vanished() -%}
        {%- do granary.record_build(results) -%}
        {%- do granary.prune_deltas() -%}
        {%- if flags.WHICH != 'test' and var('publish') -%}
            {{ granary.publish_script(fails=not failed and not flags.EMPTY) }}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{#-
    `dbt run-operation publish`: publish what waits, for instance after `dbt build --vars 'publish: false'`. `despite`: the
    names of nodes that hold it and are to be overlooked this once.
-#}
{% macro publish(despite=[]) -%}
    {%- do run_query('set role ' ~ target.role) -%}
    {%- do run_query(granary.create_publish_records()) -%}
    {%- do granary.release_vanished() -%}
    {%- set script = granary.publish_script([despite] if despite is string else despite) -%}
    {%- if script | trim -%}{%- do run_query(script) -%}{%- endif -%}
{%- endmacro %}

{#- The statements of a publish; if something holds it, one that fails and says what, or, unless `fails`, a warning. -#}
{% macro publish_script(despite=[], fails=true) -%}
    {#- Held until the script has ended, or the connection has. -#}
    {%- do run_query('select ops.take_lock(' ~ granary.publish_lock() ~ ", 'publishing', false)") -%}
    {%- do granary.forget_shrinking() -%}
    {%- set waiting = run_query(
        "select 1 from ops.unpublished where schema_name = '" ~ granary.published_schema() ~ "' limit 1").rows | length > 0 -%}
    {%- set holds = granary.publish_holds(despite) -%}
    {%- if waiting and not holds -%}
        {%- set document = granary.quoted(tojson(granary.publish_document())) -%}
        {%- set changing = run_query('select unnest(ops.plan_publish(' ~ document ~ '))').columns[0].values() -%}
        {%- set holds = granary.publish_holds(despite) -%}
        {%- if not holds -%}
            {%- do granary.forget_shrinking() -%}
            {%- do granary.tell_of_marts_without_a_model(granary.marts()) %}
    select ops.refuse();
    {%- for name in changing %}
    begin;
    select ops.make_columns_ready('{{ name }}');
    commit;
    {%- endfor %}
    begin;
    select ops.publish({{ document }});
    commit;
    select pg_advisory_unlock({{ granary.publish_lock() }})
        {%- else -%}
            {{ granary.end_of_publish(holds, fails) }}
        {%- endif -%}
    {%- else -%}
        {{ granary.end_of_publish(holds if waiting else {}, fails) }}
    {%- endif -%}
{%- endmacro %}

{#- Nothing is published: say what holds it, if something does. -#}
{% macro end_of_publish(holds, fails) -%}
    {%- do run_query('select pg_advisory_unlock(' ~ granary.publish_lock() ~ ')') -%}
    {%- if holds and fails -%}
        {{ granary.raise_in_database(granary.words_of_holds(holds)) }}
    {%- elif holds -%}
        {%- do exceptions.warn(granary.words_of_holds(holds)) -%}
    {%- endif -%}
{%- endmacro %}

{#-
    All marts as one value, which ops.publish() and its parts (granary/warehouse/migrations/publish.sql) work by. `key`: the columns of
    the unique index that the model declares first; `day`: what puts a row into a month.
-#}
{% macro publish_document() -%}
    {%- set marts, schemas = [], [] -%}
    {%- for name, node in granary.marts().items() -%}
        {%- set meta, indexes, key = node.config.meta, [], [] -%}
        {%- for index in meta.get('declared_indexes', []) -%}
            {%- if index.get('unique') and not key -%}{%- do key.extend(index['columns']) -%}{%- endif -%}
            {%- do indexes.append({
                'name': granary.declared_index_name(name, index),
                'columns': index['columns'],
                'unique': index.get('unique', false),
                'type': index.get('type', 'btree'),
            }) -%}
        {%- endfor -%}
        {%- do marts.append({
            'name': name,
            'node': node.unique_id,
            'key': key,
            'partition': granary.partition_columns(node) if node.config.incremental_strategy == 'overwrite_partitions' else [],
            'day': meta.get('business_date'),
            'measures': meta.get('measures', []),
            'floor': meta.get('floor', 0.5),
            'grants': node.config.grants,
            'unmasked': meta.get('unmasked', {}),
            'masked': granary.masked_columns(node),
            'indexes': indexes,
        }) -%}
    {%- endfor -%}
    {%- for node in graph.nodes.values() if node.resource_type == 'model' -%}
        {%- do schemas.append(node.schema) -%}
    {%- endfor -%}
    {{ return({
        'schema': granary.published_schema(),
        'personal': granary.personal_schema(),
        'build': generate_schema_name('build', none) | trim,
        'invocation': invocation_id,
        'erasing': env_var('GRANARY_ERASING', '') != '',
        'schemas': schemas | unique | list,
        'marts': marts,
    }) }}
{%- endmacro %}

{#- A statement that fails with these words: unlike an error in a hook's template, dbt counts it and ends as usual. -#}
{% macro raise_in_database(words) -%}
    do $granary$ begin raise exception '%', {{ granary.quoted(words) }}; end $granary$;
{%- endmacro %}

{#- Tables that analysts may rely on and that no model fills any more stay as they are; a person drops them. -#}
{% macro tell_of_marts_without_a_model(known) -%}
    {%- for row in run_query(
        "select relname from pg_class where relkind in ('r', 'v') and relnamespace = to_regnamespace('" ~ granary.published_schema()
        ~ "') order by relname").rows if row[0] not in known -%}
        {%- do exceptions.warn(granary.published_schema() ~ '.' ~ row[0]
            ~ ' is built by no model any more and stays as it was; drop it when nobody needs it.') -%}
    {%- endfor -%}
{%- endmacro %}

{% macro quoted(text) -%}
    '{{ text | replace("'", "''") }}'
{%- endmacro %}
