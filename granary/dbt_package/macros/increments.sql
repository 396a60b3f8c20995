{#-
    Increments. An incremental model with the strategy overwrite_partitions overwrites the partitions that changed, by
    difference, and hands what differs on to those that read it. It declares in `meta`
        partition_by  the column or columns that a partition is known by; without it, each row by itself
        changed_by    input model -> what a change there means here (granary/warehouse/migrations/increments.sql);
                      without it, everything is computed, and what differs is written
        changes       the log model that says which partitions loads changed, of a model that reads the raw tables
        depends_on_vars  vars that its rows depend on
    Days that somebody asked for (from_date, to_date) are overwritten as well.
    The work is done by functions of the schema ops. See docs/engine/increments.md.
-#}

{#- The model that is built, as these functions know it; nothing, if it does not overwrite partitions. -#}
{% macro increment(node=none) -%}
    {%- set node = node or model -%}
    {%- if not execute or node.resource_type != 'model' or node.config.incremental_strategy != 'overwrite_partitions' -%}
        {{ return(none) }}
    {%- endif -%}
    {%- set meta, name, inputs, vars = node.config.meta, node.schema ~ '.' ~ node.alias, {}, [] -%}
    {%- for input, by in meta.get('changed_by', {}).items() -%}
        {%- set read = granary.node_named(input) -%}
        {%- set means = namespace(by=by | trim) -%}
        {%- for word in modules.re.findall('[{](\w+)[}]', by) -%}
            {%- set means.by = means.by | replace('{' ~ word ~ '}', granary.node_relation(granary.node_named(word)) | string) -%}
        {%- endfor -%}
        {%- do inputs.update({read.schema ~ '.' ~ read.alias: {'delta': granary.delta(read), 'by': means.by}}) -%}
    {%- endfor -%}
    {%- for name in meta.get('depends_on_vars', []) -%}{%- do vars.append(var(name)) -%}{%- endfor -%}
    {%- for id in node.depends_on.nodes if id.startswith('seed.') -%}{%- do vars.append(graph.nodes[id].checksum.checksum) -%}{%- endfor -%}
    {%- set partition = granary.partition_columns(node) -%}
    {%- set log = none -%}
    {%- if 'changes' in meta -%}
        {%- set log = granary.changed_partitions(granary.node_relation(granary.node_named(meta['changes'])), partition[0], name) -%}
    {%- elif partition == ['business_date'] and var('from_date') and var('to_date') -%}
        {%- set log = granary.requested_partitions(partition[0]) -%}
    {%- endif -%}
    {{ return({
        'model': name,
        'relation': granary.node_relation(node) | string,
        'delta': granary.delta(node),
        'grain': granary.grain(node),
        'partition': partition,
        'fingerprint': local_md5(node.raw_code ~ tojson(meta.get('changed_by', {}), sort_keys=true) ~ partition ~ vars),
        'invocation': invocation_id,
        'inputs': inputs if 'changed_by' in meta else none,
        'log': log,
    }) }}
{%- endmacro %}

{#- The table of the rows in which the versions of a model differ. -#}
{% macro delta(node) -%}
    {{ return('"' ~ node.schema ~ '"."' ~ node.alias ~ '__delta"') }}
{%- endmacro %}

{#- The columns of a model's unique key: its config, or the first unique index that it declares. -#}
{% macro grain(node) -%}
    {%- if node.config.unique_key -%}
        {{ return([node.config.unique_key] if node.config.unique_key is string else node.config.unique_key) }}
    {%- endif -%}
    {%- for index in node.config.meta.get('declared_indexes', []) if index.get('unique') -%}
        {{ return(index['columns']) }}
    {%- endfor -%}
    {{ exceptions.raise_compiler_error(
        node.name ~ ' overwrites partitions and has no unique key, by which rows are compared: declare a unique index in'
        ~ ' meta.declared_indexes, or give it the config unique_key (docs/engine/increments.md).') }}
{%- endmacro %}

{% macro partition_columns(node) -%}
    {%- set columns = node.config.meta.get('partition_by') or granary.grain(node) -%}
    {{ return([columns] if columns is string else columns) }}
{%- endmacro %}

{#- rebuild, all, some or none: see ops.increment_state. -#}
{% macro increment_state() -%}
    {%- set increment = granary.increment() -%}
    {%- if not increment or flags.FULL_REFRESH -%}{{ return('rebuild') }}{%- endif -%}
    {{ return(run_query('select ops.increment_state(' ~ granary.quoted(tojson(increment)) ~ ')').rows[0][0]) }}
{%- endmacro %}

{#- dbt's own, by the macro of the project: a model is built anew if its code is another one, or what it reads was. -#}
{% macro should_full_refresh() -%}
    {%- set configured = config.get('full_refresh') -%}
    {%- if configured is not none -%}{{ return(configured) }}{%- endif -%}
    {{ return(flags.FULL_REFRESH or (granary.increment() is not none and granary.increment_state() == 'rebuild')) }}
{%- endmacro %}

{#-
    The condition of a model's query for rows of the partitions that it overwrites; true, if it computes everything.
    `columns`: its expressions for the columns of its partitions. `through`: a relation with these columns that has the
    values of `columns` in its column `key`, for instance the days of a month, so that an index on the day serves.
-#}
{% macro in_partitions(columns=none, through=none, key=none) -%}
    {%- set state = granary.increment_state() if granary.increment() and is_incremental() else 'all' -%}
    {%- if state == 'none' -%}
        false
    {%- elif state != 'some' -%}
        true
    {%- else -%}
        {%- set partition = granary.partition_columns(model) -%}
        {%- set listed = partition | join(', ') -%}
        {%- if through -%}
        {{ columns }} = any(array(
            select listed.{{ key }} from {{ through }} as listed
            where ({{ listed }}) in (select {{ listed }} from granary_partitions)
        ))
        {%- elif partition | length == 1 -%}
        {{ columns or listed }} = any(array(select {{ listed }} from granary_partitions))
        {%- else -%}
        ({{ columns or listed }}) in (select {{ listed }} from granary_partitions)
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}

{#-
    The rows of an input that went or came since the model last took it in, each with its `sign`, -1 or 1; all of them,
    with 1, if the model computes everything. For sums and counts that are kept up to date by what changed.
-#}
{% macro changed_rows(relation) -%}
    {%- if granary.increment() and is_incremental() -%}
    (
        select delta.*
        from {{ relation.include(database=false) | replace('"' ~ relation.identifier ~ '"', '"' ~ relation.identifier ~ '__delta"') }} as delta
        where delta.version > (
            select cast(states.inputs ->> '{{ relation.schema }}.{{ relation.identifier }}' as bigint)
            from ops.model_states as states
            where states.model = '{{ granary.watermark_name() }}'
        )
    )
    {%- else -%}
    (select *, 1 as sign from {{ relation }})
    {%- endif -%}
{%- endmacro %}

{#- dbt's own. What an increment needs besides is said in the same statement, and so in the same transaction. -#}
{% macro postgres__create_table_as(temporary, relation, sql) -%}
    {%- set increment = granary.increment() -%}
    {%- if not increment or flags.EMPTY -%}
        {{ dbt.postgres__create_table_as(temporary, relation, sql) }}
    {%- elif temporary -%}
        {%- set state = granary.increment_state() -%}
        {%- if state == 'some' %}
    select ops.find_partitions({{ granary.quoted(tojson(increment)) }});
        {%- endif %}
    create temporary table {{ relation }} on commit drop as (
        {{ 'select * from ' ~ this ~ ' limit 0' if state == 'none' else sql }}
    );
    {%- else -%}
        {{ dbt.postgres__create_table_as(temporary, relation, sql) }}
    select ops.note_rebuild({{ granary.quoted(tojson(increment)) }}, '{{ relation }}');
    {%- endif -%}
{%- endmacro %}

{#- The incremental strategy. -#}
{% macro overwrite_partitions(arg_dict) -%}
    {%- if flags.EMPTY -%}
    select 1
    {%- else -%}
    select ops.write_increment(
        {{ granary.quoted(tojson(granary.increment())) }}, '{{ granary.increment_state() }}', '{{ arg_dict["temp_relation"] }}'
    )
    {%- endif -%}
{%- endmacro %}

{#- A query for the partitions in which the latest version of a node differs from the one before. -#}
{% macro published_partitions(node) -%}
    select {{ granary.partition_columns(node) | join(', ') }}
    from {{ granary.delta(node) }}
    where version = (select max(version) from ops.model_versions where model = '{{ node.schema }}.{{ node.alias }}')
{%- endmacro %}

{#- On-run-end: what all have taken in is not kept. After an erasure nothing is. -#}
{% macro prune_deltas() -%}
    {%- set models = [] -%}
    {%- for node in graph.nodes.values() if node.config.incremental_strategy == 'overwrite_partitions' -%}
        {%- do models.append({'model': node.schema ~ '.' ~ node.alias, 'delta': granary.delta(node)}) -%}
    {%- endfor -%}
    {%- set erasing = env_var('GRANARY_ERASING', '') != '' -%}
    {%- do run_query('select ops.prune_deltas(' ~ granary.quoted(tojson(models)) ~ ', ' ~ erasing ~ ')') -%}
{%- endmacro %}

{#-
    On-run-start: what a model with `changed_by` reads, itself or through views, is named there, and is of a kind whose
    changes can be followed.
-#}
{% macro check_inputs() -%}
    {%- for node in (graph.nodes.values() if execute else []) if 'changed_by' in node.config.meta -%}
        {%- set read, declared = [], node.config.meta['changed_by'] -%}
        {%- set ids = node.depends_on.nodes | list -%}
        {%- for id in ids -%}
            {%- set input = graph.nodes.get(id) or graph.sources[id] -%}
            {%- if input.config.materialized in ('view', 'ephemeral') and input.resource_type == 'model' -%}
                {%- do ids.extend(input.depends_on.nodes | reject('in', ids)) -%}
            {%- elif input.resource_type != 'seed' and input.name not in read and input.source_name != 'ops' -%}
                {%- do read.append(input.name) -%}
                {%- if declared.get(input.name) != 'never' and input.config.incremental_strategy != 'overwrite_partitions' -%}
                    {{ granary.wrong_inputs(node, 'reads ' ~ input.name ~ ', whose changes cannot be followed: make it incremental'
                        ~ ' (overwrite_partitions), or leave changed_by out') }}
                {%- elif input.name not in declared -%}
                    {{ granary.wrong_inputs(node, 'reads ' ~ input.name ~ ' and does not say what a change there means') }}
                {%- endif -%}
            {%- endif -%}
        {%- endfor -%}
        {%- for name in declared if name not in read -%}
            {{ granary.wrong_inputs(node, 'names ' ~ name ~ ', which it does not read') }}
        {%- endfor -%}
    {%- endfor -%}
{%- endmacro %}

{% macro wrong_inputs(node, what) -%}
    {{ exceptions.raise_compiler_error(
        node.name ~ ' ' ~ what ~ ': correct config.meta.changed_by in ' ~ node.original_file_path ~ ' (docs/engine/increments.md).') }}
{%- endmacro %}
