{#-
    The records of publishing, in ops. dbt writes them; see docs/decisions/0016-marts-are-published-together.md.
        unpublished       what was built and is not published yet: a mart's partition, or all of it (partition is null)
        publish_holds     nodes that must succeed before anything is published
        publishes         each publish
        published_months  the restatement ledger: per publish, mart and business month, rows and sums before and after
-#}
{% macro create_publish_records() -%}
    create table if not exists ops.unpublished (
        unpublished_id bigint generated always as identity primary key,
        schema_name text not null,
        mart text not null,
        partition text,
        invocation_id text not null,
        built_at timestamptz not null default clock_timestamp()
    );
    create table if not exists ops.publish_holds (
        schema_name text not null,
        node text not null,
        reason text not null,
        invocation_id text not null,
        since timestamptz not null default clock_timestamp(),
        primary key (schema_name, node)
    );
    create table if not exists ops.publishes (
        publish_id bigint generated always as identity primary key,
        schema_name text not null,
        invocation_id text not null,
        started_at timestamptz not null,
        finished_at timestamptz not null default clock_timestamp(),
        marts text[] not null,
        rows_inserted bigint not null,
        rows_deleted bigint not null,
        last_date date,
        loads_seen jsonb not null
    );
    create table if not exists ops.published_months (
        publish_id bigint not null references ops.publishes,
        mart text not null,
        business_month date,
        rows_inserted bigint not null,
        rows_deleted bigint not null,
        previous_row_count bigint,
        row_count bigint not null,
        previous_measures jsonb,
        measures jsonb not null
    );
    create index if not exists published_months_by_mart on ops.published_months (mart, business_month, publish_id)
{%- endmacro %}

{#- The schema that analysts read. Marts are built in another one, which is closed to them. -#}
{% macro published_schema() -%}
    {{ return(generate_schema_name('marts', none)) }}
{%- endmacro %}

{#- Whether a model or seed is built in the schema `build`, and published from there. -#}
{% macro is_built_apart(node) -%}
    {{ return(node.config.schema == 'build') }}
{%- endmacro %}

{#- The models and seeds that are marts, by name. -#}
{% macro marts() -%}
    {%- set found = {} -%}
    {%- for node in graph.nodes.values() if node.resource_type in ('model', 'seed') -%}
        {%- if is_built_apart(node) and node.config.materialized != 'ephemeral' -%}
            {%- do found.update({node.alias: node}) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}

{#- Post-hook of the marts: what this build has written is to be published. It is forgotten if the build rolls back. -#}
{% macro record_unpublished() -%}
    insert into ops.unpublished (schema_name, mart, partition, invocation_id)
    {%- if is_incremental() and model.config.meta.get('changes') %}
    select '{{ published_schema() }}', '{{ this.identifier }}', cast(written.partition as text), '{{ invocation_id }}'
    from ({{ published_partitions(model) }}) as written (partition)
    group by written.partition
    {%- else %}
    values ('{{ published_schema() }}', '{{ this.identifier }}', null, '{{ invocation_id }}')
    {%- endif %}
{%- endmacro %}

{#-
    Whether a node must succeed before anything is published: all that is built, and the tests that block. Ephemeral models
    are never run by themselves.
-#}
{% macro holds_publishing(node) -%}
    {{ return(
        (node.resource_type in ('model', 'seed', 'snapshot') and node.config.materialized != 'ephemeral')
        or (node.resource_type == 'test' and node.config.severity | lower == 'error')
    ) }}
{%- endmacro %}

{#-
    On-run-start: what this run is going to build and test holds publishing until it has succeeded, so that a run that is
    killed half-way, or another one that is still building, leaves nothing that a third one could publish. It waits for a
    publish that is going on.
-#}
{% macro hold_publishing() -%}
    {%- if execute and flags.WHICH != 'test' -%}
        {%- set held = [] -%}
        {%- for id in selected_resources if id in graph.nodes and holds_publishing(graph.nodes[id]) -%}
            {%- do held.append("'" ~ id ~ "'") -%}
        {%- endfor %}
    select ops.take_lock({{ publish_lock() }}, 'publishing', true);
    insert into ops.publish_holds (schema_name, node, reason, invocation_id)
    select '{{ published_schema() }}', node, '{{ unfinished() }}', '{{ invocation_id }}'
    from unnest(cast(array[{{ held | join(', ') }}] as text[])) as node
    on conflict (schema_name, node) do update set
        reason = excluded.reason,
        invocation_id = excluded.invocation_id,
        since = excluded.since
    {%- endif -%}
{%- endmacro %}

{% macro publish_lock() -%}
    hashtext('granary.publish.{{ published_schema() }}')
{%- endmacro %}

{#- Why a node holds publishing while a run is at it, or if the run was killed; only a later run takes it over. -#}
{% macro unfinished() -%}
    has not finished
{%- endmacro %}

{#-
    What succeeded holds nothing any more; what failed, or was skipped since something else failed, does. (`dbt retry` does not
    say in selected_resources what it is going to build.)
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
                schema_name = '{{ published_schema() }}'
                and node in ({{ good | join(', ') }})
                {%- if flags.WHICH != 'test' %}
                and (invocation_id = '{{ invocation_id }}' or reason <> '{{ unfinished() }}')
                {%- endif %}
        {%- endset -%}
        {%- do run_query(release) -%}
    {%- endif -%}
    {%- if bad -%}
        {%- set record -%}
            insert into ops.publish_holds as mine (schema_name, node, reason, invocation_id)
            select '{{ published_schema() }}', failed.node, failed.reason, '{{ invocation_id }}'
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
{%- endmacro %}

{#- The nodes that hold publishing, with the reason; those that the project does not have any more hold nothing. -#}
{% macro publish_holds(despite=[]) -%}
    {%- set held = [] -%}
    {%- set recorded -%}
        select
            node,
            reason
        from ops.publish_holds
        where schema_name = '{{ published_schema() }}'
        order by reason <> 'failed', since, node
    {%- endset -%}
    {%- for row in run_query(recorded).rows -%}
        {%- set node = graph.nodes.get(row[0]) -%}
        {%- if node and holds_publishing(node) and node.name not in despite -%}
            {%- do held.append(node.name ~ ' ' ~ row[1]) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(held) }}
{%- endmacro %}
