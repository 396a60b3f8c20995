{#-
    What is known of each mart that is to be published. `way`:
        create   it is not there yet
        change   its rows change, its columns do not
        replace  its columns change, and no view depends on it
        widen    it gets columns more, and views depend on it
        refuse   it would lose or retype columns, and views depend on it
    A mart that has columns to mask, or had some once, is a table in the schema `personal` behind a view (`has_view`);
    `moves`: it was not up to now.
-#}
{% macro describe_marts(known, names) -%}
    {%- set catalog = run_query(granary.columns_of_marts(known[names[0]].schema)).rows -%}
    {%- set in_ledger = granary.measures_in_ledger() -%}
    {%- set described = [] -%}
    {%- for name in names -%}
        {%- set columns, kinds = {}, {} -%}
        {%- for row in catalog if row[1] == name -%}
            {%- do columns.setdefault(row[0], {}).update({row[2]: row[3]}) -%}
            {%- do kinds.update({row[0]: row[4]}) -%}
        {%- endfor -%}
        {%- set built = columns.get(known[name].schema, {}) -%}
        {%- set mart = granary.describe_mart(known[name], built, granary.personal_schema() in columns) -%}
        {%- set moves = mart.has_view and kinds.get(granary.published_schema()) in ('r', 'p') -%}
        {%- set now = columns.get(granary.published_schema() if moves else mart.schema, {}) -%}
        {%- do mart.update(granary.change_of_columns(mart, built, now, moves)) -%}
        {%- do mart.update({
            'table': mart.published ~ ('__new' if mart.way == 'replace' else ''),
            'old_columns': now,
            'view_columns': now.keys() | list + mart.added if mart.way in ('change', 'widen') else mart.columns,
            'view_types': dict(now, **built),
            'moves': moves,
            'is_shown': kinds.get(granary.published_schema()) == 'v',
            'is_in_ledger': name in in_ledger
                and not mart.measures | reject('in', in_ledger[name] or mart.measures) | list,
        }) -%}
        {%- if built -%}{%- do described.append(mart) -%}{%- endif -%}
    {%- endfor -%}
    {{ return(described) }}
{%- endmacro %}

{#- A query for the columns of all relations in the schemas of the built and of the published marts. -#}
{% macro columns_of_marts(build_schema) -%}
    select
        schemas.nspname as schema_name,
        tables.relname as table_name,
        columns.attname as column_name,
        format_type(columns.atttypid, columns.atttypmod) as data_type,
        cast(tables.relkind as text) as kind
    from pg_catalog.pg_class as tables
    inner join pg_catalog.pg_namespace as schemas on tables.relnamespace = schemas.oid
    inner join pg_catalog.pg_attribute as columns
        on tables.oid = columns.attrelid and columns.attnum > 0 and not columns.attisdropped
    where
        schemas.nspname in ('{{ build_schema }}', '{{ granary.published_schema() }}', '{{ granary.personal_schema() }}')
        and tables.relkind in ('r', 'p', 'v', 'm')
    order by columns.attnum
{%- endmacro %}

{#-
    How a mart is published, from its configuration:
        key        the columns of the unique index that the model declares first; rows are compared by it
        partition  the column that an incremental model overwrites by. A mart without a key is one partition, '*'
        day        meta.business_date, an SQL expression, or the column business_date: what puts a row into a month
        measures   what the ledger adds up: money (numeric(12,2)), and the columns of meta.measures
-#}
{% macro describe_mart(node, columns, is_personal) -%}
    {%- set meta = node.config.meta -%}
    {%- set unique = meta.get('declared_indexes', []) | selectattr('unique', 'defined') | list -%}
    {%- set key = unique[0]['columns'] if unique else [] -%}
    {%- set measures = [] -%}
    {%- for column, type in columns.items() if type == 'numeric(12,2)' or column in meta.get('measures', []) -%}
        {%- do measures.append(column) -%}
    {%- endfor -%}
    {%- set is_partitioned = meta.get('changes') and node.config.unique_key in columns -%}
    {%- set indexes = [] -%}
    {%- for index in meta.get('declared_indexes', []) -%}
        {%- do indexes.append(dict(index, name=granary.declared_index_name(node.alias, index))) -%}
    {%- endfor -%}
    {%- set has_view = is_personal or granary.masked_columns(node) | length > 0 -%}
    {%- set schema = granary.personal_schema() if has_view else granary.published_schema() -%}
    {{ return({
        'name': node.alias,
        'node': node,
        'schema': schema,
        'build': node.schema ~ '.' ~ node.alias,
        'published': schema ~ '.' ~ node.alias,
        'shown': granary.published_schema() ~ '.' ~ node.alias,
        'has_view': has_view,
        'columns': columns.keys() | list,
        'types': columns,
        'key': key,
        'partition': node.config.unique_key if is_partitioned else none if key else "'*'",
        'partition_type': columns[node.config.unique_key] if is_partitioned else 'text',
        'indexes': indexes,
        'day': meta.get('business_date', 'business_date' if 'business_date' in columns else 'cast(null as date)'),
        'measures': measures,
    }) }}
{%- endmacro %}

{% macro change_of_columns(mart, built, now, moves) -%}
    {%- set added, lost = [], [] -%}
    {%- for column in built if column not in now -%}{%- do added.append(column) -%}{%- endfor -%}
    {%- for column, type in now.items() if built.get(column) != type -%}{%- do lost.append(column) -%}{%- endfor -%}
    {%- set dependants = [] -%}
    {%- if now and (added or lost or moves) -%}
        {%- do dependants.extend(granary.views_on(mart.shown)) -%}
        {%- if mart.has_view -%}
            {%- do dependants.extend(granary.views_on(mart.published) | reject('equalto', mart.shown)) -%}
        {%- endif -%}
    {%- endif -%}
    {%- set way = 'create' if not now else 'refuse' if moves and dependants else 'change' if not (added or lost)
        else 'replace' if not dependants else 'refuse' if lost else 'widen' -%}
    {{ return({'way': way, 'added': added, 'lost': lost, 'dependants': dependants}) }}
{%- endmacro %}

{% macro views_on(relation) -%}
    {%- set views = run_query(
        "select distinct cast(cast(rules.ev_class as regclass) as text) from pg_depend as links"
        ~ " inner join pg_rewrite as rules on links.objid = rules.oid where links.classid = 'pg_rewrite'::regclass"
        ~ " and links.refclassid = 'pg_class'::regclass and links.refobjid = to_regclass('" ~ relation ~ "')"
        ~ " and rules.ev_class <> links.refobjid") -%}
    {{ return(views.columns[0].values() | list) }}
{%- endmacro %}

{% macro publish_mart(mart) -%}
    {%- if mart.way in ('create', 'replace') %}
    {{ granary.create_published(mart) }}
    {%- else %}
    {{ granary.change_published(mart) }}
    {%- endif %}
{%- endmacro %}

{#-
    Rows first, then what the built table has besides, then indexes: nobody reads the table before the publish commits. A
    table that a query creates is written in half the time of one that rows are inserted into.
-#}
{% macro create_published(mart) -%}
    create table {{ mart.table }} as
    select {{ mart.columns | join(', ') }} from {{ mart.build }};
    {{ granary.take_over_columns(mart) }}
    {%- for index in mart.indexes %}
    {{ granary.create_index(index, index.name ~ ('__new' if mart.way == 'replace' else ''), mart.table) }}
    {%- endfor %}
    {%- if mart.way == 'replace' %}
    {{ granary.totals(mart, mart.published, mart.old_columns, -1) }}
    {%- endif %}
    {{ granary.totals(mart, mart.table, mart.types, 1) }}
{%- endmacro %}

{#- Descriptions of the built table's columns, and which are never null. -#}
{% macro take_over_columns(mart) -%}
    do $granary$
    declare
        statement text;
    begin
        for statement in
            select format('comment on column {{ mart.table }}.%I is %L', attname, col_description(attrelid, attnum))
            from pg_attribute
            where attrelid = '{{ mart.build }}'::regclass and attnum > 0 and not attisdropped
            union all
            select 'alter table {{ mart.table }} ' || string_agg(format('alter column %I set not null', attname), ', ')
            from pg_attribute
            where attrelid = '{{ mart.build }}'::regclass and attnum > 0 and not attisdropped and attnotnull
            having count(*) > 0
        loop
            execute statement;
        end loop;
    end $granary$;
{%- endmacro %}

{#- The rows that differ. Of a mart that was built as a whole, only partitions that differ are looked at row by row. -#}
{% macro change_published(mart) -%}
    {%- set columns = mart.columns | join(', ') %}
    {%- if mart.partition %}
    insert into publish_scope (mart, partition)
    select '{{ mart.name }}', cast(coalesce(built.partition, published.partition) as text)
    from ({{ granary.digest(mart, mart.build) }}) as built
    full outer join ({{ granary.digest(mart, mart.published) }}) as published on built.partition = published.partition
    where
        (built.row_count, built.digest) is distinct from (published.row_count, published.digest)
        and exists (select 1 from publish_scope where mart = '{{ mart.name }}' and partition is null);
    {%- endif %}
    with gone as (
        delete from {{ mart.published }} as old
        where {{ granary.in_scope(mart, 'old') }} and not exists ({{ granary.same_row(mart, mart.build, 'new', 'old') }})
        returning {{ granary.counted(mart) }}
    )

    {{ granary.changes_of(mart, 'gone', -1) }};
    with come as (
        insert into {{ mart.published }} ({{ columns }})
        select {{ columns }} from {{ mart.build }} as new
        where {{ granary.in_scope(mart, 'new') }} and not exists ({{ granary.same_row(mart, mart.published, 'old', 'new') }})
        returning {{ granary.counted(mart) }}
    )

    {{ granary.changes_of(mart, 'come', 1) }};
    {{ granary.index_published(mart) }}
{%- endmacro %}

{#- Rows and a digest of each partition. -#}
{% macro digest(mart, relation) -%}
    select
        {{ mart.partition }} as partition,
        count(*) as row_count,
        sum(hash_record_extended(row({{ mart.columns | join(', ') }}), 0)) as digest
    from {{ relation }}
    {%- if mart.partition != "'*'" %}
    group by {{ mart.partition }}
    {%- endif %}
{%- endmacro %}

{% macro in_scope(mart, alias) -%}
    {%- if mart.partition == "'*'" -%}
    exists (select 1 from publish_scope where mart = '{{ mart.name }}' and partition is not null)
    {%- elif mart.partition -%}
    {{ alias }}.{{ mart.partition }} = any(array(
        select cast(partition as {{ mart.partition_type }}) from publish_scope where mart = '{{ mart.name }}'
    ))
    {%- else -%}
    true
    {%- endif -%}
{%- endmacro %}

{#- A query for the row of a relation that is equal in every column; of a mart without a key, none. -#}
{% macro same_row(mart, relation, there, here) -%}
    select 1 from {{ relation }} as {{ there }}
    where
    {%- for column in mart.key %}
        {{ there }}.{{ column }} = {{ here }}.{{ column }} and
    {%- else %}
        false and
    {%- endfor %}
        {{ granary.in_scope(mart, there) }}
        and ({{ there }}.{{ mart.columns | join(', ' ~ there ~ '.') }})
        is not distinct from ({{ here }}.{{ mart.columns | join(', ' ~ here ~ '.') }})
{%- endmacro %}

{% macro counted(mart) -%}
    {{ mart.day }} as day{% for measure in mart.measures %}, {{ measure }}{% endfor %}
{%- endmacro %}

{#- What rows that came or went change in the months of the ledger. -#}
{% macro changes_of(mart, rows, sign) -%}
    {{ granary.add_to_delta(mart, rows, 'count(*)', mart.measures, sign) }}
{%- endmacro %}

{#-
    The same for all rows of a relation, added up by the day first: 20.9 M rows have few days. What is written down as a
    table is read by all processors, which an insert is not.
-#}
{% macro totals(mart, relation, columns, sign) -%}
    {%- set measures = mart.measures | select('in', columns) | list -%}
    create temporary table publish_days on commit drop as
    select
        {{ mart.day }} as day,
        count(*) as row_count{% for measure in measures %},
        sum({{ measure }}) as {{ measure }}{% endfor %}
    from {{ relation }}
    group by {{ mart.day }};
    {{ granary.add_to_delta(mart, 'publish_days', 'sum(row_count)', measures, sign) }};
    drop table publish_days;
{%- endmacro %}

{% macro add_to_delta(mart, days, rows, measures, sign) -%}
    insert into publish_delta (mart, business_month, last_date, rows_inserted, rows_deleted, measures)
    select
        '{{ mart.name }}',
        cast(date_trunc('month', day) as date),
        {{ 'max(day)' if sign > 0 else 'cast(null as date)' }},
        {{ rows ~ ', 0' if sign > 0 else '0, ' ~ rows }},
        {{ granary.measured(measures, sign) }}
    from {{ days }}
    group by cast(date_trunc('month', day) as date)
{%- endmacro %}

{% macro measured(measures, sign) -%}
    jsonb_build_object(
    {%- for measure in measures -%}
        '{{ measure }}', {{ '-' if sign < 0 }}coalesce(sum({{ measure }}), 0){{ ', ' if not loop.last }}
    {%- endfor -%}
    )
{%- endmacro %}

{#- Indexes that the model declares since the mart was created. Building one lets readers read. -#}
{% macro index_published(mart) -%}
    {%- for index in mart.indexes %}
    {{ granary.create_index(index, index.name, mart.published, 'if not exists') }}
    {%- endfor %}
{%- endmacro %}
