{#-
    What holds publishing: ops.publish_holds. From its start, a run holds publishing for every node and blocking test that
    it selects, and releases those that succeed. A mart that would lose more rows than it may holds as well.
-#}

{#-
    Whether a node must succeed before anything is published: all that is built, and the tests that block. Ephemeral models
    are never run by themselves, and a test that reads a disabled model never runs at all.
-#}
{% macro holds_publishing(node) -%}
    {{ return(node.config.enabled and (
        (node.resource_type in ('model', 'seed', 'snapshot') and node.config.materialized != 'ephemeral')
        or (node.resource_type == 'test' and node.config.severity | lower == 'error')
    )) }}
{%- endmacro %}

{#-
    On-run-start: what this run is going to build and test holds publishing until it has succeeded, so that a run that is
    killed half-way, or another one that is still building, leaves nothing that a third one could publish. It waits for a
    publish that is going on.
-#}
{% macro hold_publishing() -%}
    {%- if execute and flags.WHICH != 'test' -%}
        {%- set held = [] -%}
        {%- for id in selected_resources if id in graph.nodes and granary.holds_publishing(graph.nodes[id]) -%}
            {%- do held.append("'" ~ id ~ "'") -%}
        {%- endfor %}
    select ops.take_lock({{ granary.publish_lock() }}, 'publishing', true);
    insert into ops.publish_holds (schema_name, node, reason, invocation_id)
    select '{{ granary.published_schema() }}', node, '{{ granary.unfinished() }}', '{{ invocation_id }}'
    from unnest(cast(array[{{ held | join(', ') }}] as text[])) as node
    on conflict (schema_name, node) do update set
        reason = excluded.reason,
        invocation_id = excluded.invocation_id,
        since = excluded.since
    {%- endif -%}
{%- endmacro %}

{#- Why a node holds publishing while a run is at it, or if the run was killed; only a later run takes it over. -#}
{% macro unfinished() -%}
    has not finished
{%- endmacro %}

{#-
    What succeeded holds nothing any more; what failed, or was skipped since something else failed, does. (`dbt retry` does not
    say in selected_resources what it is going to build.) Returns whether anything failed.
-#}
{% macro settle_holds(results) -%}
    {%- set good, bad = [], [] -%}
    {%- for result in results if result.node and result.node.resource_type in ('model', 'seed', 'snapshot', 'test') -%}
        {%- set node = result.node -%}
        {%- if result.status in ('success', 'pass', 'warn', 'no-op') -%}
            {%- do good.append("'" ~ node.unique_id ~ "'") -%}
        {%- elif node.resource_type != 'test' or node.config.severity | lower == 'error' -%}
            {%- set reason = 'was skipped' if result.status == 'skipped' else 'failed' -%}
            {%- do bad.append("('" ~ node.unique_id ~ "', '" ~ reason ~ "')") -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if good and not flags.EMPTY -%}
        {%- set release -%}
            delete from ops.publish_holds
            where
                schema_name = '{{ granary.published_schema() }}'
                and node in ({{ good | join(', ') }})
                {%- if flags.WHICH != 'test' %}
                and (invocation_id = '{{ invocation_id }}' or reason <> '{{ granary.unfinished() }}')
                {%- endif %}
        {%- endset -%}
        {%- do run_query(release) -%}
    {%- endif -%}
    {%- if bad -%}
        {%- set record -%}
            insert into ops.publish_holds as mine (schema_name, node, reason, invocation_id)
            select '{{ granary.published_schema() }}', failed.node, failed.reason, '{{ invocation_id }}'
            from (values {{ bad | join(', ') }}) as failed (node, reason)
            on conflict (schema_name, node) do update set
                reason = excluded.reason,
                invocation_id = excluded.invocation_id,
                since = excluded.since
            {%- if flags.WHICH != 'test' %}
            where mine.invocation_id = excluded.invocation_id
            {%- endif %}
        {%- endset -%}
        {%- do run_query(record) -%}
    {%- endif -%}
    {{ return(results | selectattr('status', 'in', granary.bad_statuses()) | list | length > 0) }}
{%- endmacro %}

{% macro bad_statuses() -%}
    {{ return(['error', 'fail', 'runtime error', 'partial success', 'skipped']) }}
{%- endmacro %}

{#- Keep how the run has ended: by node what failed or was skipped, and what only warns; messages may quote rows. -#}
{% macro record_build(results) -%}
    {%- set failures, warnings = [], [] -%}
    {%- for result in results if result.node -%}
        {%- set said = {'node': result.node.name, 'status': result.status | string, 'rows': result.failures} -%}
        {%- if result.status in granary.bad_statuses() -%}
            {%- do failures.append(said) -%}
        {%- elif result.status == 'warn' -%}
            {%- do warnings.append(said) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do run_query(
        "insert into ops.builds (invocation_id, schema_name, command, failures, warnings) values ('" ~ invocation_id
        ~ "', '" ~ granary.published_schema() ~ "', '" ~ flags.WHICH ~ "', " ~ granary.quoted(tojson(failures)) ~ ", "
        ~ granary.quoted(tojson(warnings)) ~ ") on conflict (invocation_id) do nothing") -%}
{%- endmacro %}

{#- What the project does not have any more (removed, renamed, disabled, only warning now) holds nothing, nor waits. -#}
{% macro release_vanished() -%}
    {%- set present = [] -%}
    {%- for id, node in graph.nodes.items() if granary.holds_publishing(node) -%}
        {%- do present.append("'" ~ id ~ "'") -%}
    {%- endfor -%}
    {#- What holds under another project's name (the project or its package was renamed) holds under the new one. -#}
    {%- do run_query(
        "update ops.publish_holds as held set node = present.id from unnest(cast(array[" ~ present | join(', ')
        ~ "] as text[])) as present (id) where held.schema_name = '" ~ granary.published_schema()
        ~ "' and held.node <> all(cast(array[" ~ present | join(', ') ~ "] as text[]))"
        ~ " and split_part(held.node, '.', 1) = split_part(present.id, '.', 1)"
        ~ " and split_part(held.node, '.', 3) = split_part(present.id, '.', 3) and not exists (select 1 from ops.publish_holds"
        ~ " as other where other.schema_name = held.schema_name and other.node = present.id)") -%}
    {%- do run_query(
        "delete from ops.publish_holds where schema_name = '" ~ granary.published_schema()
        ~ "' and node <> all(cast(array[" ~ present | join(', ') ~ "] as text[]))") -%}
    {%- do run_query(
        "delete from ops.unpublished where schema_name = '" ~ granary.published_schema()
        ~ "' and mart <> all(cast(array['" ~ granary.marts().keys() | join("', '") ~ "'] as text[]))") -%}
{%- endmacro %}

{#- The nodes that hold publishing, by name, with the reason. Those that do not, having no data, are marked. -#}
{% macro publish_holds(despite=[]) -%}
    {%- set held = {} -%}
    {%- set recorded = run_query(
        "select node, reason from ops.publish_holds where schema_name = '" ~ granary.published_schema()
        ~ "' order by reason <> 'failed', since, node").rows -%}
    {%- set missing = granary.sources_without_rows() if recorded else [] -%}
    {%- set without_data = [] -%}
    {%- for row in recorded -%}
        {%- set node = graph.nodes.get(row[0]) -%}
        {%- if node and granary.never_had_data(node, missing) -%}
            {%- do without_data.append("'" ~ row[0] ~ "'") -%}
        {%- elif node and node.name not in despite -%}
            {%- do held.update({node.name: row[1]}) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if without_data -%}
        {%- do run_query(
            "update ops.publish_holds set reason = 'has never had data' where schema_name = '" ~ granary.published_schema()
            ~ "' and node in (" ~ without_data | join(', ') ~ ')') -%}
    {%- endif -%}
    {{ return(held) }}
{%- endmacro %}

{#- What a person is told of holds: why, and the way out. -#}
{% macro words_of_holds(holds) -%}
    {%- set names = holds.keys() | list -%}
    {%- set said = [] -%}
    {%- for name in names[:5] -%}{%- do said.append(name ~ ' ' ~ holds[name]) -%}{%- endfor -%}
    {{ return(
        'nothing was published; ' ~ granary.published_schema() ~ ' stays as it was: ' ~ said | join(', ')
        ~ (' and ' ~ (names | length - 5) ~ ' more' if names | length > 5 else '')
        ~ '. Mend it, and build and test it again; or, if it is right as it is, let it through: dbt run-operation publish'
        ~ ' --args "{despite: [' ~ (names[:5] | join(', ') if names | length <= 5 else 'NAME, ...')
        ~ ']}" (docs/engine/runbooks/failed-run.md)'
    ) }}
{%- endmacro %}

{#- Source tables of which no load has brought a row yet. -#}
{% macro sources_without_rows() -%}
    {%- set loaded = [] -%}
    {%- for row in run_query('select distinct source, table_name from ops.load_audit where rows_loaded > 0').rows -%}
        {%- do loaded.append((row[0], row[1])) -%}
    {%- endfor -%}
    {%- set missing = [] -%}
    {%- for id, source in graph.sources.items() -%}
        {%- if source.schema.startswith('raw_') and (source.source_name, source.identifier) not in loaded -%}
            {%- do missing.append(id) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(missing) }}
{%- endmacro %}

{#-
    Whether a node waits for a source that never delivered, and has no rows itself: it fails, or is skipped, since there is
    nothing yet, and keeps nobody from anything. Of a test, whether this is so of something that it reads.
-#}
{% macro never_had_data(node, missing) -%}
    {%- if not granary.upstream_of(node) | select('in', missing) | list -%}
        {{ return(false) }}
    {%- endif -%}
    {%- if node.resource_type == 'test' -%}
        {%- for id in node.depends_on.nodes -%}
            {%- if id in missing or (id in graph.nodes and granary.never_had_data(graph.nodes[id], missing)) -%}
                {{ return(true) }}
            {%- endif -%}
        {%- endfor -%}
        {{ return(false) }}
    {%- endif -%}
    {%- set schemas = [node.schema] + ([granary.published_schema(), granary.personal_schema()] if granary.is_built_apart(node) else []) -%}
    {%- for row in run_query(
        "select cast(cast(oid as regclass) as text) from pg_class where relkind in ('r', 'p') and relname = '" ~ node.alias
        ~ "' and relnamespace::regnamespace::text in ('" ~ schemas | join("', '") ~ "')").rows -%}
        {%- if run_query('select 1 from ' ~ row[0] ~ ' limit 1').rows -%}
            {{ return(false) }}
        {%- endif -%}
    {%- endfor -%}
    {{ return(true) }}
{%- endmacro %}

{#- A node's id and those of all that it is made from. -#}
{% macro upstream_of(node) -%}
    {%- set upstream = [node.unique_id] -%}
    {%- for id in upstream -%}
        {%- set parents = (graph.nodes.get(id) or {}).get('depends_on', {}).get('nodes', []) -%}
        {%- do upstream.extend(parents | reject('in', upstream)) -%}
    {%- endfor -%}
    {{ return(upstream) }}
{%- endmacro %}

{#- How the reason of a mart begins that holds publishing since it would lose rows. -#}
{% macro shrinking() -%}
    would shrink from
{%- endmacro %}

{% macro forget_shrinking() -%}
    {%- do run_query(
        "delete from ops.publish_holds where schema_name = '" ~ granary.published_schema() ~ "' and reason like '" ~ granary.shrinking()
        ~ " %'") -%}
{%- endmacro %}

{#-
    Hold publishing for each mart that it would leave with less than its floor: the share of its published rows, as the
    ledger has them, that a publish must keep. `meta.floor` declares another than half; none may become empty.
-#}
{% macro hold_shrinking(marts) -%}
    {%- set counts = [] -%}
    {%- for mart in marts if mart.way != 'create' -%}
        {%- do counts.append(granary.row_counts(mart)) -%}
    {%- endfor -%}
    {%- if counts and not env_var('GRANARY_ERASING', '') -%} {#- what is erased on request may be all there is -#}
        {%- set record -%}
            insert into ops.publish_holds (schema_name, node, reason, invocation_id)
            select
                '{{ granary.published_schema() }}',
                node,
                format('{{ granary.shrinking() }} %s to %s rows', rows_before, rows_after),
                '{{ invocation_id }}'
            from ({{ counts | join(' union all ') }}) as counted (node, least_share, rows_before, rows_after)
            where rows_before > 0 and rows_after < greatest(1, least_share * rows_before)
            on conflict (schema_name, node) do nothing
        {%- endset -%}
        {%- do run_query(record) -%}
    {%- endif -%}
{%- endmacro %}

{#- A query for a mart's node, floor, and rows before and after the publish; partitions count by themselves. -#}
{% macro row_counts(mart) -%}
    {%- set unpublished -%}
        from ops.unpublished where schema_name = '{{ granary.published_schema() }}' and mart = '{{ mart.name }}'
    {%- endset -%}
    {%- set written -%}
        {{ mart.partition }} = any(array(select cast(partition as {{ mart.partition_type }}) {{ unpublished }}))
    {%- endset -%}
    select
        '{{ mart.node.unique_id }}',
        cast({{ mart.node.config.meta.get('floor', 0.5) }} as numeric),
        before.row_count,
        case
            when exists (select 1 {{ unpublished }} and partition is null)
                then (select count(*) from {{ mart.build }})
            {%- if mart.partition and mart.partition != "'*'" %}
            else
                before.row_count
                + (select count(*) from {{ mart.build }} where {{ written }})
                - (select count(*) from {{ mart.shown if mart.moves else mart.published }} where {{ written }})
            {%- endif %}
        end
    from (
        {%- if mart.is_in_ledger %}
        select coalesce(sum(row_count), 0)
        from (
            select distinct on (months.business_month) months.row_count
            from ops.published_months as months
            inner join ops.publishes as publishes on months.publish_id = publishes.publish_id
            where publishes.schema_name = '{{ granary.published_schema() }}' and months.mart = '{{ mart.name }}'
            order by months.business_month, months.publish_id desc
        ) as latest
        {%- else %}
        select count(*) from {{ mart.shown if mart.moves else mart.published }}
        {%- endif %}
    ) as before (row_count)
{%- endmacro %}
