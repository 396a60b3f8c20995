-- Publishing: what dbt built is carried into the tables that people read, with insert and delete only, in one
-- transaction (docs/engine/decisions/0016). dbt describes the project as one JSON value and calls these functions as
-- transformer; they have the rights of whoever calls them.
--
--     doc    what runs.sql works by
--     mart   {name, node, key, partition, ranges, day, measures, floor, grants, unmasked, masked, indexes}, from ops.marts
--     plan   a mart with what the catalogue says of it, from ops.plan_mart

create or replace function ops.texts(list jsonb) returns text[]
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select coalesce(array_agg(value order by position), '{}')
    from jsonb_array_elements_text(list) with ordinality as items (value, position)
$$;

create or replace function ops.column_list(names text[], alias text default '') returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select string_agg(alias || quote_ident(name), ', ' order by position)
    from unnest(names) with ordinality as items (name, position)
$$;

create or replace function ops.columns_of(relation regclass) returns table (name text, type text)
language sql stable set search_path = pg_catalog, pg_temp as $$
    select cast(attname as text), format_type(atttypid, atttypmod)
    from pg_attribute
    where attrelid = relation and attnum > 0 and not attisdropped
    order by attnum
$$;

-- The same as information_schema.columns has it, in the order that dbt's adapter takes; nothing, if there is no such relation.
create or replace function ops.columns_for_dbt(relation text) returns table (
    name text, data_type text, character_maximum_length integer, numeric_precision integer, numeric_scale integer
)
language sql stable set search_path = pg_catalog, pg_temp as $$
    select
        cast(attname as text), format_type(atttypid, null),
        case when atttypid in ('varchar'::regtype, 'bpchar'::regtype) and atttypmod > 0 then atttypmod - 4 end,
        case when atttypid = 'numeric'::regtype and atttypmod > 0 then ((atttypmod - 4) >> 16) & 65535 end,
        case when atttypid = 'numeric'::regtype and atttypmod > 0 then (atttypmod - 4) & 2047 end
    from pg_attribute
    where attrelid = to_regclass(relation) and attnum > 0 and not attisdropped
    order by attnum
$$;

create or replace function ops.views_on(relation regclass) returns setof text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select distinct cast(cast(rules.ev_class as regclass) as text)
    from pg_depend as links
    inner join pg_rewrite as rules on links.objid = rules.oid
    where links.classid = 'pg_rewrite'::regclass and links.refclassid = 'pg_class'::regclass
        and links.refobjid = relation and rules.ev_class <> relation
$$;

-- What a model declares of its indexes (`meta.declared_indexes`), in full. Without a name of its own:
-- rentals (business_date) -> rentals__business_date
create or replace function ops.declared_indexes(model text, declared jsonb) returns jsonb
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select coalesce(jsonb_agg(jsonb_build_object(
        'name', array_to_string(model || ops.texts(one -> 'columns'), '__'), 'unique', false, 'type', 'btree'
    ) || one order by position), '[]')
    from jsonb_array_elements(declared) with ordinality as items (one, position)
$$;

-- Whether a node is built apart and published: a model or a seed, of the schema `build`.
create or replace function ops.is_mart(doc jsonb, node jsonb) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select node ->> 'kind' in ('model', 'seed') and node ->> 'schema' = doc ->> 'build'
        and node ->> 'materialized' is distinct from 'ephemeral'
$$;

-- The columns of a node that only few may read, by what is done with those of their tier.
create or replace function ops.masked_columns(doc jsonb, node jsonb) returns setof text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select name
    from jsonb_each(node -> 'columns') as columns (name, meta)
    where doc #>> array['masks', meta ->> 'personal'] = 'mask'
$$;

create or replace function ops.masked_columns(doc jsonb) returns table (mart text, column_name text)
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select node ->> 'alias', masked
    from jsonb_array_elements(doc -> 'nodes') as node
    cross join lateral ops.masked_columns(doc, node) as masked
    where ops.is_mart(doc, node)
$$;

-- What a project says of its marts. The key: the columns of the first unique index that is declared.
create or replace function ops.marts(doc jsonb) returns setof jsonb
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select jsonb_build_object(
        'name', node -> 'alias', 'node', node -> 'id', 'partition', node -> 'partition',
        'masked', (select coalesce(jsonb_agg(masked.name), '[]') from ops.masked_columns(doc, node) as masked (name)),
        'subjects', (
            select coalesce(jsonb_agg(key), '[]') from jsonb_each(node -> 'columns') where value ->> 'subject' is not null
        ),
        'ranges', meta -> 'range_partitions', 'grants', node -> 'grants', 'unmasked', coalesce(meta -> 'unmasked', '{}'), 'day', meta -> 'business_date',
        'measures', coalesce(meta -> 'measures', '[]'), 'floor', coalesce(meta -> 'floor', '0.5'), 'indexes', indexes,
        'key', coalesce(jsonb_path_query_first(indexes, '$[*] ? (@.unique == true).columns'), '[]')
    )
    from jsonb_array_elements(doc -> 'nodes') as node
    cross join lateral (select node -> 'meta') as described (meta)
    cross join lateral ops.declared_indexes(node ->> 'alias', meta -> 'declared_indexes') as indexes
    where ops.is_mart(doc, node)
$$;

-- The expression for the day that a row belongs to: what a model declares, or its business date if it has one.
create or replace function ops.day_of(relation regclass, declared text) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce(nullif(declared, ''), max(name), 'cast(null as date)')
    from ops.columns_of(relation)
    where name = 'business_date'
$$;

-- What is to be done with a mart, or null if it was not built. `way`:
--     create   it is not there yet
--     change   its rows change, its columns do not
--     replace  its columns or its ranges change, and no view depends on it
--     widen    it gets columns more, and views depend on it
--     refuse   it would lose or retype columns, or get other ranges, and views depend on it; or has a `problem` of ranges
-- A mart that has columns to mask, or had some once, is a table in the schema personal behind a view (`has_view`);
-- `moves`: it was not up to now.
create or replace function ops.plan_mart(doc jsonb, mart jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    built regclass := to_regclass(format('%I.%I', doc ->> 'build', mart ->> 'name'));
    shown text := format('%I.%I', doc ->> 'schema', mart ->> 'name');
    behind text := format('%I.%I', doc ->> 'personal', mart ->> 'name');
    has_view boolean := mart -> 'masked' <> '[]' or to_regclass(behind) is not null;
    published text := case when has_view then behind else shown end;
    shown_kind "char" := (select relkind from pg_class where oid = to_regclass(shown));
    moves boolean := has_view and coalesce(shown_kind in ('r', 'p'), false);
    present regclass := to_regclass(case when moves then shown else published end);
    columns text[] := (select array_agg(name) from ops.columns_of(built));
    types jsonb := (select jsonb_object_agg(name, type) from ops.columns_of(built));
    old_columns text[] := coalesce((select array_agg(name) from ops.columns_of(present)), '{}');
    old_types jsonb := coalesce((select jsonb_object_agg(name, type) from ops.columns_of(present)), '{}');
    added text[] := array(select name from ops.columns_of(built) where not old_types ? name);
    lost text[] := array(select name from ops.columns_of(present) where types ->> name is distinct from type);
    measures text[] := array(
        select name from ops.columns_of(built) where type = 'numeric(12,2)' or mart -> 'measures' ? name
    );
    partition text[] := case
        when types ?& ops.texts(mart -> 'partition') and mart -> 'partition' <> '[]' then ops.texts(mart -> 'partition')
        when mart -> 'key' = '[]' then '{*}'
    end;
    ranges jsonb := ops.plan_ranges(doc, mart, built, present);
    reshapes boolean := coalesce((ranges -> 'changes')::boolean, false);
    dependants text[] := '{}';
    way text;
begin
    if built is null then
        return null;
    end if;
    if present is not null and (added <> '{}' or lost <> '{}' or moves or reshapes) then
        dependants := array(select ops.people_views_on(doc ->> 'schema', mart ->> 'name', to_regclass(shown)));
        if has_view then
            dependants := dependants || array(
                select view from ops.people_views_on(doc ->> 'schema', mart ->> 'name', to_regclass(published)) as view
                where to_regclass(view) is distinct from to_regclass(shown)
            );
        end if;
    end if;
    way := case
        when ranges ->> 'problem' is not null then 'refuse'
        when present is null then 'create'
        when (moves or reshapes) and dependants <> '{}' then 'refuse'
        when added = '{}' and lost = '{}' and not reshapes then 'change'
        when dependants = '{}' then 'replace'
        when lost <> '{}' then 'refuse'
        else 'widen'
    end;
    return mart || jsonb_build_object(
        'schema', doc ->> 'schema', 'personal', doc ->> 'personal', 'built', cast(built as text), 'shown', shown,
        'published', published, 'has_view', has_view, 'moves', moves, 'ranges', ranges, 'is_shown', coalesce(shown_kind = 'v', false), 'way', way,
        'table', case when way = 'replace' then format('%I.%I', split_part(published, '.', 1), mart ->> 'name' || '__new')
            else published end,
        'columns', columns, 'types', types, 'old_columns', old_columns, 'added', added, 'lost', lost,
        'view_columns', case when way in ('change', 'widen') then old_columns || added else columns end,
        'view_types', old_types || types, 'dependants', dependants, 'measures', measures, 'partition', partition,
        'day', ops.day_of(built, mart ->> 'day'),
        'is_in_ledger', ops.is_in_ledger(doc ->> 'schema', mart ->> 'name', measures)
    );
end
$$;

-- Whether the ledger knows a mart with all its measures; of one that never had a row, all.
create or replace function ops.is_in_ledger(schema_name text, mart text, measures text[]) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    return exists (
        select from ops.publishes as known where known.schema_name = $1 and $2 = any(known.marts)
    ) and coalesce((
        select months.measures ?& $3
        from ops.published_months as months
        inner join ops.publishes as publishes on months.publish_id = publishes.publish_id
        where months.mart = $2 and publishes.schema_name = $1
        order by months.publish_id desc
        limit 1
    ), true);
end
$$;

-- Take the lock that changing a table's columns needs. Whoever reads meanwhile queues behind it, so it is asked for in
-- slices of 100 ms, with pauses in which the queue moves on. Of a view, what it reads is locked as well.
create or replace function ops.lock_briefly(relation text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    usual constant text := current_setting('lock_timeout');
begin
    perform set_config('lock_timeout', '100ms', true);
    for attempt in 1 .. 300 loop
        begin
            execute format('lock table %s in access exclusive mode', relation);
            exit;
        exception when lock_not_available then
            if attempt = 300 then
                raise exception 'nothing was changed: % is to change, and for a minute some query has not let go of it;'
                    ' see pg_stat_activity, then run again', relation;
            end if;
            perform pg_sleep(0.1);
        end;
    end loop;
    perform set_config('lock_timeout', usual, true);
end
$$;

-- Make what is granted on a relation what is wanted: privilege -> grantee or grantees, as SQL writes them.
create or replace function ops.grant_relation(relation text, wanted jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    statement text;
begin
    for statement in
        with held as (
            select
                lower(held.privilege_type) as privilege,
                case when held.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(held.grantee)) end as grantee
            from pg_class as tables
            cross join lateral aclexplode(tables.relacl) as held
            where tables.oid = to_regclass(relation) and held.grantee <> tables.relowner
        ), asked as (
            select wish.key as privilege, ops.grantee(name) as grantee
            from jsonb_each(coalesce(wanted, '{}')) as wish
            cross join lateral jsonb_array_elements_text(
                case jsonb_typeof(wish.value) when 'array' then wish.value else jsonb_build_array(wish.value) end
            ) as name
        )
        select format('revoke %s on %s from %s', privilege, relation, grantee)
        from (select * from held except select * from asked) as gone
        union all
        select format('grant %s on %s to %s', privilege, relation, grantee)
        from (select * from asked except select * from held) as new
    loop
        execute statement;
    end loop;
end
$$;

-- Let everybody into a schema who is granted something there. Models that are built at once may ask for it.
create or replace function ops.grant_schema(schema_name text, grants jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    reader text;
begin
    for reader in
        select distinct ops.grantee(name)
        from jsonb_path_query(grants, '$[*].*') as listed
        cross join lateral jsonb_array_elements_text(
            case jsonb_typeof(listed) when 'array' then listed else jsonb_build_array(listed) end
        ) as name
    loop
        if not has_schema_privilege(
            case when reader like '"%' then trim(both '"' from reader) else lower(reader) end, schema_name, 'usage'
        ) then
            perform pg_advisory_xact_lock(hashtext('ops.grant_schema'));
            execute format('grant usage on schema %I to %s', schema_name, reader);
        end if;
    end loop;
end
$$;

-- The comments of the table as it is built, on the published one or the view before it.
create or replace function ops.comment_as_built(built regclass, published regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    statement text;
begin
    for statement in
        select format(
            'comment on %s %s is %L', case relkind when 'v' then 'view' else 'table' end, published,
            obj_description(built, 'pg_class')
        )
        from pg_class
        where oid = published and obj_description(built, 'pg_class') is distinct from obj_description(published, 'pg_class')
        union all
        select format('comment on column %s.%I is %L', published, mine.attname, col_description(built, theirs.attnum))
        from pg_attribute as theirs
        inner join pg_attribute as mine on mine.attrelid = published and theirs.attname = mine.attname
        where theirs.attrelid = built and theirs.attnum > 0
            and col_description(built, theirs.attnum) is distinct from col_description(published, mine.attnum)
    loop
        execute statement;
    end loop;
end
$$;

-- The select statement of the view of a mart. Who reads is asked once per statement and column, not per row.
drop function if exists ops.masked_query(jsonb, text[]);
create or replace function ops.masked_query(plan jsonb, columns text[], origin text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select format(
        'select %s from %s',
        string_agg(
            case
                when not plan -> 'masked' ? name then quote_ident(name)
                when plan #>> array['view_types', name] = 'text' then format(
                    'case when (select has_table_privilege(%L::regclass, ''select'')) then %2$I'
                    ' when %2$I is not null then ''masked'' end as %2$I', plan ->> 'published', name
                )
                else format(
                    'case when (select has_table_privilege(%L::regclass, ''select'')) then %2$I end as %2$I',
                    plan ->> 'published', name
                )
            end, ', ' order by position
        ),
        origin
    )
    from unnest(columns) with ordinality as items (name, position)
$$;

-- The view of a mart, as its tiers are now: created, or replaced if it says something else, so that nobody waits for
-- nothing; never dropped, since people's own views stand on it. `origin`: what it reads, if it is not the table.
drop function if exists ops.show_masked(jsonb, text[]);
create or replace function ops.show_masked(plan jsonb, columns text[], origin text default null) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    query text := ops.masked_query(plan, columns, coalesce(origin, plan ->> 'published'));
begin
    execute 'create temporary view granary_wanted as ' || query;
    if pg_get_viewdef('pg_temp.granary_wanted'::regclass)
        is distinct from pg_get_viewdef(to_regclass(plan ->> 'shown'))
    then
        if to_regclass(plan ->> 'shown') is not null then
            perform ops.lock_briefly(plan ->> 'shown');
        end if;
        execute format('create or replace view %s as %s', plan ->> 'shown', query);
    end if;
    drop view pg_temp.granary_wanted;
end
$$;

-- A transaction of its own for each mart whose columns are made ready before the publish, so that no lock outlives it:
-- one that gets columns to mask goes to the schema personal as it is, with rows and indexes and without its grants;
-- one that gets columns more gets them empty.
create or replace function ops.make_columns_ready(mart text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    plan jsonb := (select planned.plan from pg_temp.publish_plans as planned where planned.plan ->> 'name' = mart);
    reader text;
begin
    if (plan -> 'moves')::boolean then
        execute format('create schema if not exists %I', plan ->> 'personal');
        perform ops.lock_briefly(plan ->> 'shown');
        execute format('alter table %s set schema %I', plan ->> 'shown', plan ->> 'personal');
        for reader in
            select distinct case when held.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(held.grantee)) end
            from pg_class as tables
            cross join lateral (
                select (aclexplode(tables.relacl)).grantee
                union
                select (aclexplode(columns.attacl)).grantee from pg_attribute as columns where columns.attrelid = tables.oid
            ) as held
            where tables.oid = to_regclass(plan ->> 'published') and held.grantee <> tables.relowner
        loop
            execute format('revoke all on %s from %s', plan ->> 'published', reader);
        end loop;
        perform ops.show_masked(plan, ops.texts(plan -> 'old_columns'));
        perform ops.grant_relation(plan ->> 'shown', plan -> 'grants');
    end if;
    if plan ->> 'way' = 'widen' then
        perform ops.lock_briefly(plan ->> 'published');
        for reader in
            select format('alter table %s add column %I %s', plan ->> 'published', name, plan #>> array['types', name])
            from jsonb_array_elements_text(plan -> 'added') as name
        loop
            execute reader;
        end loop;
        perform ops.make_history(plan);
    end if;
end
$$;

-- What a publish keeps while it is at work.
create or replace function ops.begin_publish(schema_name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    create temporary table publish_now on commit drop as
    select nextval(pg_get_serial_sequence('ops.publishes', 'publish_id')) as publish_id, clock_timestamp() as started_at;
    create temporary table publish_scope on commit drop as
    select unpublished_id, mart, partition from ops.unpublished as waiting where waiting.schema_name = $1;
    create temporary table publish_delta (
        mart text, business_month date, last_date date, rows_inserted bigint, rows_deleted bigint, measures jsonb,
        digest numeric
    ) on commit drop;
end
$$;

-- Statements are put together with these: a condition for the rows of the partitions that a query gives as texts: the value, or the values of several columns as a JSON array;
create or replace function ops.of_partitions(plan jsonb, alias text, partitions text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select case count(*)
        when 1 then format(
            '%s.%I = any(array(select cast(named.partition as %s) from (%s) as named))', alias, min(name),
            min(plan #>> array['types', name]), partitions
        )
        else format(
            '(%s) in (select %s from (%s) as named cross join lateral cast(named.partition as jsonb) as parts)',
            string_agg(format('%s.%I', alias, name), ', ' order by position),
            string_agg(format('cast(parts ->> %s as %s)', position - 1, plan #>> array['types', name]), ', ' order by position),
            partitions
        )
    end
    from jsonb_array_elements_text(plan -> 'partition') with ordinality as items (name, position)
$$;

-- a condition for the rows of the partitions that were written;
create or replace function ops.in_scope(plan jsonb, alias text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select ops.unarchived(plan, alias) || ' and ' || case
        when plan ->> 'partition' is null then 'true'
        when plan ? 'values' then format(
            '%s.%I = any(%L::%s[])', alias, plan -> 'partition' ->> 0, ops.texts(plan -> 'values'),
            plan #>> array['types', plan -> 'partition' ->> 0]
        )
        when plan -> 'partition' ->> 0 = '*' then format(
            'exists (select 1 from pg_temp.publish_scope where mart = %L and partition <> %L)', plan ->> 'name', ''
        )
        else ops.of_partitions(plan, alias, format(
            'select partition from pg_temp.publish_scope where mart = %L and partition <> %L', plan ->> 'name', ''
        ))
    end
$$;

-- a query for the row of a relation that is equal in every column; of a mart without a key, none;
create or replace function ops.same_row(plan jsonb, relation text, there text, here text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select format(
        'select 1 from %s as %s where %s and %s and (%s) is not distinct from (%s)', relation, there,
        coalesce((
            select string_agg(format('%s.%I = %s.%I', there, name, here, name), ' and ')
            from jsonb_array_elements_text(plan -> 'key') as name
        ), 'false'),
        ops.in_scope(plan, there),
        ops.column_list(ops.texts(plan -> 'columns'), there || '.'),
        ops.column_list(ops.texts(plan -> 'columns'), here || '.')
    )
$$;

-- rows and a digest of each partition;
create or replace function ops.digest_query(plan jsonb, relation text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select format(
        'select %1$s as partition, count(*) as row_count, sum(hash_record_extended(row(%2$s), 0)) as digest'
        ' from %3$s as rows where %4$s%5$s',
        case plan -> 'partition' ->> 0 when '*' then '''*''' else quote_ident(plan -> 'partition' ->> 0) end,
        ops.column_list(ops.texts(plan -> 'columns')),
        relation,
        ops.unarchived(plan, 'rows'),
        case when plan -> 'partition' ->> 0 <> '*' then format(' group by %I', plan -> 'partition' ->> 0) else '' end
    )
$$;

-- and what rows that came (sign 1) or went (-1) change in the months of the ledger, and in the mart's digest.
create or replace function ops.add_to_delta(
    plan jsonb, relation text, row_count text, measures text[], sign integer
) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select format(
        'insert into pg_temp.publish_delta (mart, business_month, last_date, rows_inserted, rows_deleted, measures, digest)'
        ' select %L, cast(date_trunc(''month'', day) as date), %s, %s, jsonb_build_object(%s), %s * coalesce(sum(_digest), 0) from %s'
        ' group by cast(date_trunc(''month'', day) as date)',
        plan ->> 'name',
        case when sign > 0 then 'max(day)' else 'cast(null as date)' end,
        case when sign > 0 then row_count || ', 0' else '0, ' || row_count end,
        (
            select string_agg(
                format('%L, %scoalesce(sum(%I), 0)', name, case when sign < 0 then '-' else '' end, name), ', '
            )
            from unnest(measures) as name
        ),
        sign,
        relation
    )
$$;

-- All rows of a relation into the ledger, added up by the day first: 20.9 M rows have few days. What is written down as a
-- table is read by all processors, which an insert is not.
create or replace function ops.count_all(plan jsonb, relation text, columns text[], sign integer) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    measures text[] := array(select name from jsonb_array_elements_text(plan -> 'measures') as name where name = any(columns));
begin
    execute format(
        'create temporary table publish_days on commit drop as'
        ' select %1$s as day, count(*) as row_count, %4$s as _digest%2$s from %3$s group by %1$s',
        plan ->> 'day',
        (select coalesce(string_agg(format(', sum(%1$I) as %1$I', name), ''), '') from unnest(measures) as name),
        relation,
        case when sign > 0 then format('sum(%s)', ops.row_digest(columns, plan -> 'types')) else 'cast(null as numeric)' end
    );
    execute ops.add_to_delta(plan, 'pg_temp.publish_days', 'sum(row_count)', measures, sign);
    drop table pg_temp.publish_days;
end
$$;

-- Create an index that a mart declares, on a table that has its rows. They are nearly in the order of the grain: one
-- process sorts what is sorted in one pass (21 million rows in 5 s); workers each get scattered pages and merge (6 s on two).
create or replace function ops.create_indexes(plan jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp set max_parallel_maintenance_workers = 0 as $$
declare
    statement text;
begin
    for statement in
        select format(
            'create %s index if not exists %I on %s using %I (%s)',
            case when (index -> 'unique')::boolean then 'unique' else '' end,
            index ->> 'name' || case plan ->> 'way' when 'replace' then '__new' else '' end,
            plan ->> 'table', index ->> 'type', ops.column_list(ops.texts(index -> 'columns'))
        )
        from jsonb_array_elements(plan -> 'indexes') as index
    loop
        execute statement;
    end loop;
end
$$;

-- The indexes that a model declares, in the transaction that builds it. dbt's own config `indexes` adds nothing to an
-- incremental table that is there already. The table that this one replaces has their names until the transaction ends.
create or replace function ops.create_declared_indexes(relation text, model text, declared jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    indexes jsonb := ops.declared_indexes(model, declared);
    taken regclass;
begin
    for taken in
        select theirs.indexrelid
        from pg_class as mine
        inner join pg_class as names on mine.relnamespace = names.relnamespace
        inner join pg_index as theirs on names.oid = theirs.indexrelid and theirs.indrelid <> mine.oid
        where mine.oid = relation::regclass
            and jsonb_path_query_array(indexes, '$[*].name') ? cast(names.relname as text)
    loop
        execute format('drop index %s', taken);
    end loop;
    perform ops.create_indexes(jsonb_build_object('table', relation, 'indexes', indexes));
end
$$;

-- A mart that is new, or that takes the place of one with other columns. Rows first, then what the built table has
-- besides, then indexes: nobody reads the table before the publish commits. A table that a query creates is written in
-- half the time of one that rows are inserted into.
create or replace function ops.create_mart(plan jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    built regclass := (plan ->> 'built')::regclass;
    missing text;
begin
    if plan ->> 'way' = 'create' then
        perform ops.end_history(plan); -- of a table that somebody dropped
    end if;
    if plan #>> '{ranges,column}' is not null then
        perform ops.create_ranged(plan);
    else
        execute format(
            'create table %s as select %s from %s', plan ->> 'table', ops.column_list(ops.texts(plan -> 'columns')), built
        );
    end if;
    select string_agg(format('alter column %I set not null', attname), ', ')
    into missing
    from pg_attribute
    where attrelid = built and attnum > 0 and not attisdropped and attnotnull;
    if missing is not null then
        execute format('alter table %s %s', plan ->> 'table', missing);
    end if;
    perform ops.create_indexes(plan);
    if plan ->> 'way' = 'replace' then
        perform ops.count_all(plan, plan ->> 'published', ops.texts(plan -> 'old_columns'), -1);
    end if;
    perform ops.count_all(plan, plan ->> 'table', ops.texts(plan -> 'columns'), 1);
end
$$;

-- The rows that differ. Of a mart that was built as a whole, only partitions that differ are looked at row by row.
create or replace function ops.change_mart(plan jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    built text := plan ->> 'built';
    published text := plan ->> 'published';
    columns text := ops.column_list(ops.texts(plan -> 'columns'));
    measures text[] := ops.texts(plan -> 'measures');
    nestloop text := current_setting('enable_nestloop');
begin
    if plan ->> 'partition' is not null and exists (
        select from pg_temp.publish_scope where mart = plan ->> 'name' and partition is null
    ) then
        if jsonb_array_length(plan -> 'partition') > 1 then
            plan := plan || '{"partition": null}'; -- too many to compare one by one
        else
            -- Written down first: an insert is not read by all processors.
            execute format(
                'create temporary table publish_digests on commit drop as'
                ' select cast(coalesce(built.partition, published.partition) as text) as partition'
                ' from (%s) as built full outer join (%s) as published on built.partition = published.partition'
                ' where (built.row_count, built.digest) is distinct from (published.row_count, published.digest)',
                ops.digest_query(plan, built), ops.digest_query(plan, published)
            );
            insert into pg_temp.publish_scope (mart, partition) select plan ->> 'name', partition from pg_temp.publish_digests;
            drop table pg_temp.publish_digests;
        end if;
    end if;
    if plan #>> '{ranges,column}' is not null then
        plan := ops.with_values(plan);
        perform ops.make_ranges(plan, ops.in_scope(plan, 'new'));
        -- A loop over a partition that is empty as yet looks cheap, and reads what it has written itself for each row.
        perform set_config('enable_nestloop', case when plan ? 'values' then 'off' else nestloop end, true);
    end if;
    perform ops.make_history(plan);
    execute format('create temporary table publish_gone on commit drop as select %s from %s limit 0', columns, published);
    execute format(
        'with gone as (delete from %s as old where %s and not exists (%s) returning %s),'
        ' kept as (insert into pg_temp.publish_gone select * from gone) %s',
        published, ops.in_scope(plan, 'old'), ops.same_row(plan, built, 'new', 'old'), columns,
        ops.add_to_delta(plan, ops.counted_rows(plan, 'gone'), 'count(*)', measures, -1)
    );
    perform ops.keep_gone(plan);
    execute format(
        'with come as (insert into %s (%s) select %s from %s as new where %s and not exists (%s) returning %s), %s %s',
        published, columns, columns, built, ops.in_scope(plan, 'new'), ops.same_row(plan, published, 'old', 'new'), columns,
        ops.keep_come(plan), ops.add_to_delta(plan, ops.counted_rows(plan, 'come'), 'count(*)', measures, 1)
    );
    perform set_config('enable_nestloop', nestloop, true);
    perform ops.net_history(plan);
    -- Only to ask for one that is there would wait for an autovacuum of the table, and it for us.
    if exists (select from ops.missing_indexes(published::regclass, plan ->> 'name', plan -> 'indexes')) then
        perform ops.create_indexes(plan);
    end if;
    perform ops.analyze_ranges(plan);
end
$$;

-- A mart whose columns change and that nobody's view depends on: the new table takes the place of the old.
create or replace function ops.swap(plan jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    statement text;
begin
    if (plan -> 'is_shown')::boolean or (plan -> 'moves')::boolean then
        perform ops.lock_briefly(plan ->> 'shown');
        execute format('drop view %s', plan ->> 'shown');
    else
        perform ops.lock_briefly(plan ->> 'published');
    end if;
    perform ops.end_history(plan);
    execute format('drop table %s', plan ->> 'published');
    execute format('alter table %s rename to %I', plan ->> 'table', plan ->> 'name');
    perform ops.name_ranges(plan ->> 'published');
    for statement in
        select format(
            'alter index %s.%I rename to %I', split_part(plan ->> 'published', '.', 1), index ->> 'name' || '__new',
            index ->> 'name'
        )
        from jsonb_array_elements(plan -> 'indexes') as index
    loop
        execute statement;
    end loop;
end
$$;

-- The restatement ledger: what the publish changed, per mart and business month. Rows and sums after it are those before
-- it and what came and went, so that writing it costs what changed. `anew`: as if nothing had been before.
create or replace function ops.write_publish(doc jsonb, marts text[], anew boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    insert into ops.publishes (
        publish_id, schema_name, invocation_id, started_at, marts, rows_inserted, rows_deleted, last_date, loads_seen
    )
    overriding system value
    select
        publish_id,
        doc ->> 'schema',
        doc ->> 'invocation',
        started_at,
        $2,
        (select coalesce(sum(rows_inserted), 0) from pg_temp.publish_delta),
        (select coalesce(sum(rows_deleted), 0) from pg_temp.publish_delta),
        greatest(
            (select max(last_date) from pg_temp.publish_delta),
            (select max(last_date) from ops.publishes where schema_name = doc ->> 'schema')
        ),
        ops.loads_seen(ops.model_schemas(doc))
    from pg_temp.publish_now;
    perform ops.write_months(doc ->> 'schema', anew);
end
$$;

create or replace function ops.write_months(schema_name text, anew boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    insert into ops.published_months (
        publish_id, mart, business_month, rows_inserted, rows_deleted,
        previous_row_count, row_count, previous_measures, measures
    )
    with changes as (
        select mart, business_month, sum(rows_inserted) as rows_inserted, sum(rows_deleted) as rows_deleted
        from pg_temp.publish_delta
        group by mart, business_month
    ), sums as (
        select delta.mart, delta.business_month, parts.key as measure, sum(cast(parts.value as numeric)) as change
        from pg_temp.publish_delta as delta
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
    cross join pg_temp.publish_now
    left join lateral (
        select months.row_count, months.measures
        from ops.published_months as months
        inner join ops.publishes as publishes on months.publish_id = publishes.publish_id
        where not anew and publishes.schema_name = $1 and months.mart = changes.mart
            and months.business_month is not distinct from changes.business_month
        order by months.publish_id desc
        limit 1
    ) as before on true;
end
$$;

-- The highest load of each source that the models have seen; of sources that no model follows, the highest of all.
create or replace function ops.loads_seen(schemas text[]) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce(jsonb_object_agg(loads.source, coalesce(seen.load_id, loads.load_id)), '{}')
    from (select source, max(load_id) as load_id from ops.load_audit group by source) as loads
    left join (
        select source, max(load_id) as load_id
        from ops.model_watermarks
        where split_part(model, '.', 1) = any(schemas)
        group by source
    ) as seen on loads.source = seen.source
$$;

-- Publish the marts that are planned, in the transaction of the caller.
create or replace function ops.publish() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    doc jsonb := (table pg_temp.publish_document);
    plans jsonb := (select jsonb_agg(planned.plan order by planned.plan ->> 'name') from pg_temp.publish_plans as planned);
    names text[] := array(select one ->> 'name' from jsonb_array_elements(plans) as one);
    adopted text[] := array(
        select one ->> 'name' from jsonb_array_elements(plans) as one
        where not (one -> 'is_in_ledger')::boolean and one ->> 'way' <> 'create'
    );
    plan jsonb;
    changed text;
begin
    -- dbt's commits do not wait for the disk (dbt_granary.py); this one does, if the server is to, and for all before it.
    perform set_config('synchronous_commit', reset_val, true) from pg_settings where name = 'synchronous_commit';
    execute format('create schema if not exists %I', doc ->> 'schema');
    if exists (select from jsonb_array_elements(plans) as one where (one -> 'has_view')::boolean) then
        execute format('create schema if not exists %I', doc ->> 'personal');
    end if;
    perform ops.begin_publish(doc ->> 'schema');
    perform ops.drop_undone(doc ->> 'schema');

    -- Marts that are there and that the ledger does not know (dbt filled them itself once), or not with all measures: as
    -- they are now, first of all.
    if adopted <> '{}' then
        for plan in select one from jsonb_array_elements(plans) as one where one ->> 'name' = any(adopted) loop
            perform ops.count_all(plan, plan ->> 'published', ops.texts(plan -> 'old_columns'), 1);
        end loop;
        perform ops.write_publish(doc, adopted, true);
        delete from pg_temp.publish_delta;
        update pg_temp.publish_now set publish_id = nextval(pg_get_serial_sequence('ops.publishes', 'publish_id'));
    end if;
    perform ops.end_changed(doc, plans);
    perform ops.digest_before(doc, plans);
    for plan in select jsonb_array_elements(plans) loop
        if plan ->> 'way' in ('create', 'replace') then
            perform ops.create_mart(plan);
        else
            perform ops.change_mart(plan);
        end if;
    end loop;
    perform ops.write_publish(doc, names, false);
    perform ops.keep_publish(doc, plans);
    delete from ops.unpublished where unpublished_id in (select unpublished_id from pg_temp.publish_scope);

    -- Sampled statistics for marts of which more than one row in a hundred is new; in ten, if they have partitions, which
    -- have statistics of their own.
    for changed in
        select one ->> 'table'
        from jsonb_array_elements(plans) as one
        inner join pg_temp.publish_delta as delta on one ->> 'name' = delta.mart
        inner join pg_class as tables on tables.oid = to_regclass(one ->> 'table')
        group by one ->> 'table', tables.reltuples, tables.relkind
        having sum(delta.rows_inserted + delta.rows_deleted)
            > greatest(tables.reltuples, 0) / case tables.relkind when 'p' then 10 else 100 end
    loop
        execute 'analyze ' || changed;
    end loop;

    -- Whoever reads the table behind a view sees the real values, in the view as well.
    for plan in select jsonb_array_elements(plans) loop
        perform ops.grant_relation(
            plan ->> 'table', case when (plan -> 'has_view')::boolean then plan -> 'unmasked' else plan -> 'grants' end
        );
        perform ops.comment_as_built((plan ->> 'built')::regclass, (plan ->> 'table')::regclass);
    end loop;
    perform ops.grant_schema(doc ->> 'schema', jsonb_path_query_array(plans, '$[*].grants'));

    -- What is granted on marts that are not published now may have changed all the same.
    for changed, plan in
        select mart ->> 'name', mart -> 'grants'
        from ops.marts(doc) as mart
        where mart ->> 'name' <> all(names) and to_regclass(format('%I.%I', doc ->> 'schema', mart ->> 'name')) is not null
    loop
        perform ops.grant_relation(format('%I.%I', doc ->> 'schema', changed), plan);
        perform ops.grant_relation(cast(views.view as text), plan) from ops.as_of_views(doc ->> 'schema', changed) as views;
    end loop;
    for plan in select one from jsonb_array_elements(plans) as one where one ->> 'way' = 'replace' loop
        perform ops.swap(plan);
    end loop;
    for plan in select one from jsonb_array_elements(plans) as one where (one -> 'has_view')::boolean loop
        perform ops.show_masked(plan, ops.texts(plan -> 'view_columns'));
        perform ops.grant_relation(plan ->> 'shown', plan -> 'grants');
        perform ops.comment_as_built((plan ->> 'built')::regclass, (plan ->> 'shown')::regclass);
        perform ops.grant_schema(doc ->> 'personal', jsonb_build_array(plan -> 'unmasked'));
    end loop;
    perform ops.renew_as_of(doc ->> 'schema', one) from unnest(names) as one;
end
$$;

-- Why a mart cannot be published, and the way out.
create or replace function ops.refusal(plan jsonb) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select 'nothing was published: ' || coalesce(plan #>> '{ranges,problem}', format(
        '%s %s, and %s depend%s on it. Drop %s%s', plan ->> 'shown',
        case when (plan -> 'moves')::boolean then 'becomes a view that masks personal data'
            when plan -> 'lost' = '[]' then 'becomes another table, by meta.range_partitions'
            else 'would lose or retype ' || array_to_string(ops.texts(plan -> 'lost'), ', ') end,
        array_to_string(ops.texts(plan -> 'dependants'), ', '), case when one then 's' else '' end, it,
        case when (plan -> 'moves')::boolean or plan -> 'lost' = '[]' then format(', run again and create %s anew', it)
            else ' and run again, or keep the column' end
    ))
    from (
        select
            jsonb_array_length(plan -> 'dependants') = 1 as one,
            case jsonb_array_length(plan -> 'dependants') when 1 then 'it' else 'them' end as it
    ) as number
$$;

-- Plan what waits to be published, and hold what would shrink too much. Returns the marts whose columns have to be made
-- ready before. The plans stay in the session: what is told of a mart is what it was before anything was changed.
create or replace function ops.plan_publish(doc jsonb) returns text[]
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    create temporary table if not exists publish_document (doc jsonb not null);
    create temporary table if not exists publish_plans (plan jsonb not null);
    delete from pg_temp.publish_document;
    delete from pg_temp.publish_plans;
    insert into pg_temp.publish_document (doc) values (doc);
    insert into pg_temp.publish_plans (plan)
    select planned
    from ops.marts(doc) as one
    cross join lateral ops.plan_mart(doc, one) as planned
    where planned is not null and exists (
        select from ops.unpublished as waiting
        where waiting.schema_name = doc ->> 'schema' and waiting.mart = one ->> 'name'
    );
    if not (doc -> 'erasing')::boolean then -- what is erased on request may be all there is
        perform ops.hold_shrinking(doc, planned.plan)
        from (select plan from pg_temp.publish_plans where plan ->> 'way' <> 'create' order by plan ->> 'name') as planned;
    end if;
    return array(
        select plan ->> 'name' from pg_temp.publish_plans
        where plan ->> 'way' = 'widen' or (plan -> 'moves')::boolean
        order by 1
    );
end
$$;

-- Fail with these words, if there are any: dbt counts an error of the database, and ends as usual.
create or replace function ops.refuse(problem text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if problem is not null then
        raise exception '%', problem;
    end if;
end
$$;
drop function if exists ops.refuse();
drop function if exists ops.publish(jsonb);

-- Hold publishing for each mart that it would leave with less than its floor: the share of its published rows, as the
-- ledger has them, that a publish must keep; none may become empty. Partitions count by themselves.
create or replace function ops.hold_shrinking(doc jsonb, plan jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    published text := plan ->> case when (plan -> 'moves')::boolean then 'shown' else 'published' end;
    rows_before numeric;
    rows_after numeric;
    written text;
begin
    if (plan -> 'is_in_ledger')::boolean then
        select coalesce(sum(row_count), 0)
        into rows_before
        from (
            select distinct on (months.business_month) months.row_count
            from ops.published_months as months
            inner join ops.publishes as publishes on months.publish_id = publishes.publish_id
            where publishes.schema_name = doc ->> 'schema' and months.mart = plan ->> 'name'
            order by months.business_month, months.publish_id desc
        ) as latest;
    else
        execute format('select count(*) from %s', published) into rows_before;
    end if;
    if exists (
        select from ops.unpublished as waiting
        where waiting.schema_name = doc ->> 'schema' and waiting.mart = plan ->> 'name' and waiting.partition is null
    ) then
        execute format('select count(*) from %s', plan ->> 'built') into rows_after;
    elsif plan -> 'partition' ->> 0 <> '*' then
        written := ops.of_partitions(plan, 'tables', format(
            'select partition from ops.unpublished where schema_name = %L and mart = %L and partition <> %L',
            doc ->> 'schema', plan ->> 'name', ''
        )) || ' and ' || ops.unarchived(plan, 'tables');
        execute format(
            'select %s + (select count(*) from %s as tables where %s) - (select count(*) from %s as tables where %3$s)',
            rows_before, plan ->> 'built', written, published
        ) into rows_after;
    else
        rows_after := null;
    end if;
    if rows_before > 0 and rows_after < greatest(1, (plan ->> 'floor')::numeric * rows_before) then
        insert into ops.publish_holds (schema_name, node, reason, invocation_id)
        values (
            doc ->> 'schema', plan ->> 'node', format('would shrink from %s to %s rows', rows_before, rows_after),
            doc ->> 'invocation'
        )
        on conflict (schema_name, node) do nothing;
    end if;
end
$$;
