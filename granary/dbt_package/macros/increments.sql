{#- What a model declares in `meta`: docs/engine/increments.md. The work: granary/warehouse/migrations/increments.sql. -#}

{#- The model that is built, as they know it, with its `state`; nothing, if it overwrites no partitions. Settled once per build. -#}
{% macro default__increment() -%}
    {%- if not execute or model.resource_type != 'model' or not granary.has_delta(model) -%}
        {{ return(none) }}
    {%- endif -%}
    {%- set kept = graph.nodes[model.unique_id] -%}
    {%- if 'increment' not in kept -%}
        {%- set described = granary.describe_increment(kept) -%}
        {%- set asked = 'select ops.increment_state(' ~ granary.as_json(described) ~ ')' -%}
        {%- do described.update({'state': 'rebuild' if flags.FULL_REFRESH else run_query(asked).rows[0][0]}) -%}
        {%- do kept.update({'increment': described}) -%}
    {%- endif -%}
    {{ return(kept['increment']) }}
{%- endmacro %}

{% macro describe_increment(node) -%}
    {%- set meta, name, inputs, vars = node.config.meta, granary.full_name(node), {}, [] -%}
    {%- for input, by in meta.get('changed_by', {}).items() -%}
        {%- set by = modules.re.sub('[{]([A-Za-z0-9_]+)[}]', granary.relation_in_braces, by | trim) -%}
        {%- do inputs.update({granary.full_name(granary.node_named(input)): by}) -%}
    {%- endfor -%}
    {%- for name in meta.get('depends_on_vars', []) -%}{%- do vars.append(var(name)) -%}{%- endfor -%}
    {%- for id in node.depends_on.nodes if id.startswith('seed.') -%}{%- do vars.append(graph.nodes[id].checksum.checksum) -%}{%- endfor -%}
    {%- set partition = granary.partition_columns(node) -%}
    {%- set log, log_relation, asked = none, none, none -%}
    {%- if 'changes' in meta -%}
        {%- set log_relation = granary.node_named(meta['changes']).relation_name -%}
        {%- set log = granary.changed_partitions(log_relation, partition[0], name) -%}
    {%- endif -%}
    {%- if ('changes' in meta or partition == ['business_date']) and var('from_date') and var('to_date') -%}
        {%- set asked = 'select ' ~ granary.partition_of(partition[0], 'day_at') ~ ' as ' ~ partition[0] ~ " from generate_series(date '"
            ~ var('from_date') ~ "', date '" ~ var('to_date') ~ "', interval '1 day') as days (day_at)" -%}
    {%- endif -%}
    {{ return({
        'model': name,
        'grain': granary.grain(node),
        'partition': partition,
        'columns': node.columns.keys() | list if node.config.contract.enforced else none,
        'fingerprint': local_md5(node.raw_code ~ tojson(meta.get('changed_by', {}), sort_keys=true) ~ partition ~ vars),
        'invocation': invocation_id,
        'inputs': inputs if 'changed_by' in meta else none,
        'log': log,
        'log_relation': log_relation,
        'asked': asked,
    }) }}
{%- endmacro %}

{% macro relation_in_braces(match) -%}
    {{ return(granary.node_named(match[1]).relation_name) }}
{%- endmacro %}

{% macro has_delta(node) -%}
    {{ return(node.config.incremental_strategy == 'overwrite_partitions') }}
{%- endmacro %}

{% macro full_name(node) -%}
    {{ return(node.schema ~ '.' ~ node.alias) }}
{%- endmacro %}

{#- The columns of a model's unique key: its config, or the first unique index that it declares. -#}
{% macro grain(node) -%}
    {%- set unique = node.config.meta.get('declared_indexes', []) | selectattr('unique', 'defined') | selectattr('unique') | list -%}
    {%- set key = node.config.unique_key or (unique[0]['columns'] if unique else []) -%}
    {{ return([key] if key is string else key) }}
{%- endmacro %}

{% macro partition_columns(node) -%}
    {%- set columns = node.config.meta.get('partition_by') or granary.grain(node) -%}
    {{ return([columns] if columns is string else columns) }}
{%- endmacro %}

{#- dbt's own, by the macro of the project: a model is built anew if its code is another one, or what it reads was. -#}
{% macro default__should_full_refresh() -%}
    {%- set configured = config.get('full_refresh') -%}
    {%- if configured is not none -%}{{ return(configured) }}{%- endif -%}
    {{ return(flags.FULL_REFRESH or (granary.increment() or {}).get('state') == 'rebuild') }}
{%- endmacro %}

{#-
    The condition of a model's query for rows of the partitions that it overwrites; true, if it computes everything.
    `columns`: its expressions for the columns of its partitions. `through`: a relation with these columns that has the
    values of `columns` in `key`, such as the days of a month, so that an index on the day serves.
-#}
{% macro in_partitions(columns=none, through=none, key=none) -%}
    {%- set state = granary.increment().state if granary.increment() and is_incremental() else 'all' -%}
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
            where ({{ listed }}) in (table granary_partitions)
        ))
        {%- elif partition | length == 1 -%}
        {{ columns or listed }} = any(array(table granary_partitions))
        {%- else -%}
        ({{ columns or listed }}) in (table granary_partitions)
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
        from {{ relation.schema }}.{{ relation.identifier }}__delta as delta
        where delta.version > (
            select ops.version_seen('{{ granary.watermark_name() }}', '{{ relation.schema }}.{{ relation.identifier }}')
        )
    )
    {%- else -%}
    (select *, 1 as sign from {{ relation }})
    {%- endif -%}
{%- endmacro %}

{#-
    The query of a model that keeps sums over all of history, by the columns of its partition: what it has of those that
    changed, and what went and came since. `sums`: column -> its value in a row that came, and its type. The first is the count
    of rows behind it: without any, it is gone.
-#}
{% macro kept_sums(relation, by, sums) -%}
{%- set keys = by | join(',\n        ') -%}
with

changes as (

    select
        {{ keys }}
        {%- for name, (value, type) in sums.items() %},
        {{ 'sign' if value == 1 else 'sign * ' ~ value }} as {{ name }}
        {%- endfor %}
    from {{ granary.changed_rows(relation) }} as changed
    {%- if is_incremental() %}

    union all

    select
        {{ keys }},
        {{ sums.keys() | join(',\n        ') }}
    from {{ this }}
    where {{ granary.in_partitions() }}
    {%- endif %}

)

select
    {{ by | join(',\n    ') }}
    {%- for name, (value, type) in sums.items() %},
    cast(sum({{ name }}) as {{ type }}) as {{ name }}
    {%- endfor %}
from changes
group by {{ by | join(', ') }}
having sum({{ sums.keys() | first }}) <> 0
{%- endmacro %}

{#- dbt's own. What an increment needs besides is in the same statement, and transaction. -#}
{% macro postgres__create_table_as(temporary, relation, sql) -%}
    {%- set increment = granary.increment() -%}
    {%- if not temporary or (increment and increment.state == 'all') -%}{%- do granary.refuse_archived() -%}{%- endif -%}
    {%- if not increment or flags.EMPTY -%}
        {{ dbt.postgres__create_table_as(temporary, relation, sql) }}
    {%- elif temporary -%}
        {%- if increment.state == 'some' %}
    select ops.find_partitions({{ granary.as_json(increment) }});
        {%- endif %}
    create temporary table {{ relation }} on commit drop as (
        {{ 'select * from ' ~ this ~ ' limit 0' if increment.state == 'none' else sql }}
    );
    {%- else -%}
        {{ granary.create_filled(relation, sql) }}
    {{ granary.perform('ops.note_rebuild(' ~ granary.as_json(increment) ~ ", '" ~ relation ~ "')") }};
    {%- endif -%}
{%- endmacro %}

{#- As dbt would, but with its rows where there is a contract, too: half the time of an insert, and parallel. -#}
{% macro create_filled(relation, sql) -%}
    {%- set casts, required, others = [], [], model.constraints | list -%}
    {%- for column in model.columns.values() -%}
        {%- set name = adapter.quote(column.name) if column.quote else column.name -%}
        {%- do casts.append('cast(' ~ name ~ ' as ' ~ column.data_type ~ ') as ' ~ name) -%}
        {%- for one in column.constraints -%}
            {%- do (required if one.type == 'not_null' else others).append('alter ' ~ name ~ ' set not null') -%}
        {%- endfor -%}
    {%- endfor -%}
    {%- if others or not config.get('contract').enforced -%}
        {{ dbt.postgres__create_table_as(false, relation, sql) }}
    {%- else -%}
    {{ get_assert_columns_equivalent(sql) }}
    create table {{ relation }} as select {{ casts | join(', ') }} from (
        {{ sql }}
    ) as made;
    {{ 'alter table ' ~ relation ~ ' ' ~ required | join(', ') ~ ';' if required }}
    {%- endif -%}
{%- endmacro %}

{#- The strategy. -#}
{% macro overwrite_partitions(arg_dict) -%}
    {%- if flags.EMPTY -%}
    select 1
    {%- else -%}
    {{ granary.perform(
        'ops.write_increment(' ~ granary.as_json(granary.increment()) ~ ", '" ~ arg_dict['temp_relation'] ~ "')") }}
    {%- endif -%}
{%- endmacro %}

{#- Call a function of the server as a statement that reports no rows: dbt would take one for what the model has. -#}
{% macro perform(call) -%}
    do $granary$ begin perform {{ call }}; end $granary$
{%- endmacro %}

{#- A query for the partitions, or another expression of the rows, in which the latest version of a node differs. -#}
{% macro published_partitions(node, value=none) -%}
    select distinct {{ value or granary.partition_columns(node) | join(', ') }}
    from "{{ node.schema }}"."{{ node.alias }}__delta"
    where version = (select max(version) from ops.model_versions where model = '{{ granary.full_name(node) }}')
{%- endmacro %}
