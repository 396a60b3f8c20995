{#-
    The restatement ledger: what each publish changed, per mart and business month. Rows and sums after it are those
    before it and what came and went, so that writing it costs what changed, however long the history is.
-#}

{#- The marts that the ledger knows, with the measures that it adds up of each; of one that never had a row, all. -#}
{% macro measures_in_ledger() -%}
    {%- set found = {} -%}
    {%- set latest -%}
        select
            known.mart,
            months.publish_id is not null as has_months,
            (select string_agg(sums.key, ' ') from jsonb_object_keys(months.measures) as sums (key)) as measures
        from (
            select distinct mart
            from ops.publishes
            cross join unnest(marts) as mart
            where schema_name = '{{ granary.published_schema() }}'
        ) as known
        left join lateral (
            select
                said.publish_id,
                said.measures
            from ops.published_months as said
            inner join ops.publishes as publishes on said.publish_id = publishes.publish_id
            where said.mart = known.mart and publishes.schema_name = '{{ granary.published_schema() }}'
            order by said.publish_id desc
            limit 1
        ) as months on true
    {%- endset -%}
    {%- for row in run_query(latest).rows -%}
        {%- do found.update({row[0]: (row[2] or '').split(' ') if row[1] else none}) -%}
    {%- endfor -%}
    {{ return(found) }}
{%- endmacro %}

{#-
    Marts that are there and that the ledger does not know (dbt filled them itself once), or not with all measures: as they
    are now, first of all.
-#}
{% macro adopt(marts) -%}
    {%- set adopted = marts | rejectattr('is_in_ledger') | rejectattr('way', 'equalto', 'create') | list -%}
    {%- if adopted -%}
        {%- for mart in adopted %}
    {{ granary.totals(mart, mart.published, mart.old_columns, 1) }}
        {%- endfor %}
    {{ granary.write_ledger(adopted, anew=true) }}
    delete from publish_delta;
    update publish_now set publish_id = nextval(pg_get_serial_sequence('ops.publishes', 'publish_id'));
    {%- endif -%}
{%- endmacro %}

{% macro write_ledger(marts, anew=false) -%}
    insert into ops.publishes (
        publish_id, schema_name, invocation_id, started_at, marts, rows_inserted, rows_deleted, last_date, loads_seen
    )
    overriding system value
    select
        publish_id,
        '{{ granary.published_schema() }}',
        '{{ invocation_id }}',
        started_at,
        array[{% for mart in marts %}'{{ mart.name }}'{{ ', ' if not loop.last }}{% endfor %}],
        (select coalesce(sum(rows_inserted), 0) from publish_delta),
        (select coalesce(sum(rows_deleted), 0) from publish_delta),
        greatest(
            (select max(last_date) from publish_delta),
            (select max(last_date) from ops.publishes where schema_name = '{{ granary.published_schema() }}')
        ),
        {{ granary.loads_seen() }}
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
            publishes.schema_name = '{{ granary.published_schema() }}'
            and {{ 'false' if anew else 'true' }}
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
