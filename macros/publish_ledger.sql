{#-
    The restatement ledger: what each publish changed, per mart and business month. Rows and sums after it are those
    before it and what came and went, so that writing it costs what changed, however long the history is.
-#}

{#- Marts that are there and that the ledger does not know (dbt filled them itself once): as they are now, first of all. -#}
{% macro adopt(marts) -%}
    {%- set adopted = marts | rejectattr('is_in_ledger') | rejectattr('way', 'equalto', 'create') | list -%}
    {%- if adopted -%}
        {%- for mart in adopted %}
    {{ totals(mart, mart.published, mart.old_columns, 1) }};
        {%- endfor %}
    {{ write_ledger(adopted) }}
    delete from publish_delta;
    update publish_now set publish_id = nextval(pg_get_serial_sequence('ops.publishes', 'publish_id'));
    {%- endif -%}
{%- endmacro %}

{% macro write_ledger(marts) -%}
    insert into ops.publishes (
        publish_id, schema_name, invocation_id, started_at, marts, rows_inserted, rows_deleted, last_date, loads_seen
    )
    overriding system value
    select
        publish_id,
        '{{ published_schema() }}',
        '{{ invocation_id }}',
        started_at,
        array[{% for mart in marts %}'{{ mart.name }}'{{ ', ' if not loop.last }}{% endfor %}],
        (select coalesce(sum(rows_inserted), 0) from publish_delta),
        (select coalesce(sum(rows_deleted), 0) from publish_delta),
        greatest(
            (select max(last_date) from publish_delta),
            (select max(last_date) from ops.publishes where schema_name = '{{ published_schema() }}')
        ),
        {{ loads_seen() }}
    from publish_now;

    insert into ops.published_months (
        publish_id, mart, business_month, rows_inserted, rows_deleted,
        previous_row_count, row_count, previous_measures, measures
    )
    with

    changes as (

        select
            mart,
            business_month,
            sum(rows_inserted) as rows_inserted,
            sum(rows_deleted) as rows_deleted
        from publish_delta
        group by mart, business_month

    ),

    sums as (

        select
            delta.mart,
            delta.business_month,
            parts.key as measure,
            sum(cast(parts.value as numeric)) as change
        from publish_delta as delta
        cross join lateral jsonb_each_text(delta.measures) as parts
        group by delta.mart, delta.business_month, parts.key

    )

    select
        publish_now.publish_id,
        changes.mart,
        changes.business_month,
        changes.rows_inserted,
        changes.rows_deleted,
        before.row_count,
        coalesce(before.row_count, 0) + changes.rows_inserted - changes.rows_deleted,
        before.measures,
        coalesce((
            select jsonb_object_agg(
                sums.measure, coalesce(cast(before.measures ->> sums.measure as numeric), 0) + sums.change
            )
            from sums
            where sums.mart = changes.mart and sums.business_month is not distinct from changes.business_month
        ), '{}')
    from changes
    cross join publish_now
    left join lateral (
        select
            months.row_count,
            months.measures
        from ops.published_months as months
        inner join ops.publishes as publishes on months.publish_id = publishes.publish_id
        where
            publishes.schema_name = '{{ published_schema() }}'
            and months.mart = changes.mart
            and months.business_month is not distinct from changes.business_month
        order by months.publish_id desc
        limit 1
    ) as before on true;
{%- endmacro %}

{#- The highest load of each source that the models have seen; of sources that no model follows, the highest of all. -#}
{% macro loads_seen() -%}
    {%- set schemas = [] -%}
    {%- for node in graph.nodes.values() if node.resource_type == 'model' -%}
        {%- do schemas.append("'" ~ node.schema ~ "'") -%}
    {%- endfor -%}
    (
        select coalesce(jsonb_object_agg(loads.source, coalesce(seen.load_id, loads.load_id)), '{}')
        from (
            select
                source,
                max(load_id) as load_id
            from ops.load_audit
            group by source
        ) as loads
        left join (
            select
                source,
                max(load_id) as load_id
            from ops.model_watermarks
            where split_part(model, '.', 1) in ({{ schemas | unique | join(', ') }})
            group by source
        ) as seen on loads.source = seen.source
    )
{%- endmacro %}
