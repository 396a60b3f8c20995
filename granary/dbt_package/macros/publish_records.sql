{#-
    The records of publishing, in ops. dbt writes them; see docs/engine/decisions/0016-marts-are-published-together.md.
        unpublished       what was built and is not published yet: a mart's partition, or all of it (partition is null)
        publish_holds     nodes that must succeed before anything is published
        builds            how each run of dbt that builds or tests has ended
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
    create table if not exists ops.builds (
        invocation_id text primary key,
        schema_name text not null,
        command text not null,
        finished_at timestamptz not null default clock_timestamp(),
        failures jsonb not null,
        warnings jsonb not null
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
        {%- if granary.is_built_apart(node) and node.config.materialized != 'ephemeral' -%}
            {%- do found.update({node.alias: node}) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}

{#- Post-hook of the marts: what this build has written is to be published. It is forgotten if the build rolls back. -#}
{% macro record_unpublished() -%}
    insert into ops.unpublished (schema_name, mart, partition, invocation_id)
    {%- if is_incremental() and granary.increment() %}
    select distinct '{{ granary.published_schema() }}', '{{ this.identifier }}', {{ granary.partition_text(model) }}, '{{ invocation_id }}'
    from {{ granary.delta(model) }}
    where version = (
        select max(version) from ops.model_versions
        where model = '{{ granary.watermark_name() }}' and invocation_id = '{{ invocation_id }}'
    )
    {%- else %}
    values ('{{ granary.published_schema() }}', '{{ this.identifier }}', null, '{{ invocation_id }}')
    {%- endif %}
{%- endmacro %}

{#- A partition as ops.unpublished knows it: its value, or those of its columns as a JSON array. -#}
{% macro partition_text(node) -%}
    {%- set columns = granary.partition_columns(node) -%}
    cast({{ columns[0] if columns | length == 1 else 'jsonb_build_array(' ~ columns | join(', ') ~ ')' }} as text)
{%- endmacro %}

{% macro publish_lock() -%}
    hashtext('granary.publish.{{ granary.published_schema() }}')
{%- endmacro %}
