-- Range partitions: the published table of a mart that declares `meta.range_partitions` is partitioned by the server
-- (docs/engine/decisions/0038). Partitions are tables of the schema `partitions`, read through the mart only. A publish
-- makes those that its rows need, and some ahead, by making a table and attaching it empty: neither does it wait for a
-- reader, nor a reader for it. Rows are written by difference as in any mart, so that one transaction shows them all.
--
--     ranges   {column, by, ahead} as declared, and in a plan also {type, schema, problem, changes, from}:
--              problem  why the mart cannot be partitioned so
--              changes  the published table is not partitioned so: another one takes its place
--              from     what lies before is archived, and is not published any more
--
-- The functions have the rights of whoever calls them: transformer.

-- The column that a table is partitioned by; null, if it is an ordinary one.
create or replace function ops.range_column(relation regclass) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select cast(columns.attname as text)
    from pg_partitioned_table as tables
    inner join pg_attribute as columns on tables.partrelid = columns.attrelid and tables.partattrs[0] = columns.attnum
    where tables.partrelid = relation and tables.partstrat = 'r' and tables.partnatts = 1
$$;

-- The partitions of a table. The one without a lower bound has no rows and takes none: what was there is archived.
create or replace function ops.ranges_of(relation regclass) returns table (part regclass, lower text, upper text)
language sql stable set search_path = pg_catalog, pg_temp as $$
    select parts.oid, nullif(bounds[1], 'MINVALUE'), bounds[2]
    from pg_inherits as links
    inner join pg_class as parts on links.inhrelid = parts.oid and parts.relispartition
    cross join lateral regexp_match(
        translate(pg_get_expr(parts.relpartbound, parts.oid), '''', ''), '^FOR VALUES FROM \((.*)\) TO \((.*)\)$'
    ) as bounds
    where links.inhparent = relation
$$;

-- An expression for where the range of a value begins, or that so many ranges later.
create or replace function ops.range_start(ranges jsonb, value text, later text default '0') returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select case
        when ranges ->> 'by' ~ '^\d+$' then format(
            'cast((floor(cast(%s as numeric) / %s) + %s) * %2$s as %4$s)', value, ranges ->> 'by', later,
            ranges ->> 'type'
        )
        else format(
            'cast(date_trunc(%L, cast(%s as timestamp)) + %s * interval %L as %s)', ranges ->> 'by', value, later,
            case ranges ->> 'by' when 'quarter' then '3 months' else '1 ' || (ranges ->> 'by') end, ranges ->> 'type'
        )
    end
$$;

-- What a mart declares and how its published table is partitioned; null, if neither says anything.
create or replace function ops.plan_ranges(doc jsonb, mart jsonb, built regclass, present regclass) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    ranges jsonb := nullif(mart -> 'ranges', 'null');
    present_column text := ops.range_column(present);
    archived_to text := (select upper from ops.ranges_of(present) where lower is null);
    kind regtype;
    is_required boolean;
    without text;
    is_aligned boolean := true;
    problem text;
begin
    if ranges is null and present_column is null then
        return null;
    end if;
    select atttypid, attnotnull into kind, is_required
    from pg_attribute
    where attrelid = built and attname = ranges ->> 'column' and attnum > 0 and not attisdropped;
    select index ->> 'name' into without
    from jsonb_array_elements(mart -> 'indexes') as index
    where (index -> 'unique')::boolean and not index -> 'columns' ? (ranges ->> 'column')
    limit 1;
    problem := case
        when archived_to is not null and present_column is distinct from ranges ->> 'column' then format(
            'its rows of %s before %s are archived: keep meta.range_partitions by that column, or'
            ' `granary archive %s --undo`', present_column, archived_to, mart ->> 'name'
        )
        when ranges is null then null
        when kind is null then format('there is no column %s', ranges ->> 'column')
        when not is_required then format('%s may be null: give it the constraint not_null', ranges ->> 'column')
        when not coalesce(ranges ->> 'by', '') ~ case
            when kind in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype) then '^[1-9]\d*$'
            when kind in ('date'::regtype, 'timestamp'::regtype) then '^(day|week|month|quarter|year)$'
            else '^$' end
            then format(
                'by %s does not fit %s, a %s: day, week, month, quarter or year of a date or timestamp, or how many whole'
                ' numbers', coalesce(ranges ->> 'by', 'nothing'), ranges ->> 'column', kind
            )
        when without is not null then format(
            'the unique index %s lacks %s, without which the server cannot keep it: add the column, or do not partition',
            without, ranges ->> 'column'
        )
    end;
    ranges := coalesce(ranges, '{}') || jsonb_build_object(
        'type', cast(kind as text), 'schema', regexp_replace(doc ->> 'schema', 'marts$', 'partitions'), 'from', archived_to,
        'problem', 'meta.range_partitions of ' || (mart ->> 'name') || ': ' || problem
    );
    if problem is null and present_column = ranges ->> 'column' then
        execute format(
            'select coalesce(bool_and((lower = %s or lower is not distinct from cast(%L as %s)) and upper = %s), true)'
            ' from (select cast(lower as %3$s) as lower, cast(upper as %3$s) as upper from ops.ranges_of(%5$L)'
            ' where lower is not null) as parts',
            ops.range_start(ranges, 'lower'), archived_to, kind, ops.range_start(ranges, 'lower', '1'), present
        ) into is_aligned;
    end if;
    return ranges || jsonb_build_object(
        'changes', present is not null and (present_column is distinct from ranges ->> 'column' or not is_aligned)
    );
end
$$;

-- A condition for rows that are published still.
create or replace function ops.unarchived(plan jsonb, alias text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select case
        when plan #>> '{ranges,from}' is null then 'true'
        else format('%s.%I >= %L', alias, plan #>> '{ranges,column}', plan #>> '{ranges,from}')
    end
$$;

-- Make an empty table like the mart's one of its partitions.
create or replace function ops.attach_range(plan jsonb, name text, bounds text, can_have_rows boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    part text := format(
        '%I.%I', plan #>> '{ranges,schema}',
        left(plan ->> 'name', 44) || '__' || name || case plan ->> 'way' when 'replace' then '__new' else '' end
    );
begin
    execute format('create schema if not exists %I', plan #>> '{ranges,schema}');
    execute format(
        'create table %s (like %s%s)', part, plan ->> 'table',
        case when can_have_rows then '' else ', constraint archived check (false)' end
    );
    execute format('alter table %s attach partition %s for values from %s', plan ->> 'table', part, bounds);
end
$$;

-- Make the partitions that are needed for the rows of the built table that meet a condition on `new`, and some ahead.
create or replace function ops.make_ranges(plan jsonb, condition text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    ranges jsonb := plan -> 'ranges';
    lower text;
    upper text;
begin
    for lower, upper in execute format(
        'with present as materialized ('
        ' select cast(lower as %1$s) as lower, cast(upper as %1$s) as upper from ops.ranges_of(%2$L)'
        '), starts as materialized ('
        ' select distinct %3$s as lower from %4$s as new where %5$s'
        '), wanted as ('
        ' select lower from starts'
        ' union'
        ' select %6$s from (select max(lower) as lower from starts) as latest'
        ' cross join generate_series(1, %7$s) as later where lower is not null'
        '), clipped as ('
        ' select greatest(lower, cast(%8$L as %1$s)) as lower, %9$s as upper from wanted'
        ')'
        ' select cast(lower as text), cast(upper as text) from clipped where not exists ('
        ' select from present'
        ' where (present.lower is null or present.lower <= clipped.lower) and present.upper > clipped.lower'
        ') order by clipped.lower',
        ranges ->> 'type', plan ->> 'table', ops.range_start(ranges, 'new.' || quote_ident(ranges ->> 'column')),
        plan ->> 'built', condition, ops.range_start(ranges, 'lower', 'later'), coalesce(ranges ->> 'ahead', '1'),
        ranges ->> 'from', ops.range_start(ranges, 'lower', '1')
    ) loop
        perform ops.attach_range(
            plan, translate(split_part(lower, ' ', 1), '-', '_'), format('(%L) to (%L)', lower, upper), true
        );
    end loop;
end
$$;

-- A mart that is new, or takes the place of one that is other. What is archived stays so.
create or replace function ops.create_ranged(plan jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    columns text := ops.column_list(ops.texts(plan -> 'columns'));
begin
    execute format(
        'create table %s (like %s) partition by range (%I)', plan ->> 'table', plan ->> 'built',
        plan #>> '{ranges,column}'
    );
    if plan #>> '{ranges,from}' is not null then
        perform ops.attach_range(plan, 'archived', format('(minvalue) to (%L)', plan #>> '{ranges,from}'), false);
    end if;
    perform ops.make_ranges(plan, ops.unarchived(plan, 'new'));
    execute format(
        'insert into %s (%s) select %2$s from %s as new where %s', plan ->> 'table', columns, plan ->> 'built',
        ops.unarchived(plan, 'new')
    );
end
$$;

-- The partitions of a table that has taken the place of another one get the names of those of the other one.
create or replace function ops.name_ranges(published text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    statement text;
begin
    for statement in
        select format('alter table %s rename to %I', part, regexp_replace(relname, '__new$', ''))
        from ops.ranges_of(to_regclass(published))
        inner join pg_class on part = pg_class.oid
        where relname like '%\_\_new'
    loop
        execute statement;
    end loop;
end
$$;

-- The plan of a mart of which only some partitions are looked at, with their values: the server leaves out the ranges that
-- have none of them. It does not for values that a query gives.
create or replace function ops.with_values(plan jsonb) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    if plan ->> 'partition' is null or jsonb_array_length(plan -> 'partition') > 1 or plan -> 'partition' ->> 0 = '*' then
        return plan;
    end if;
    return plan || jsonb_build_object('values', (
        select coalesce(jsonb_agg(distinct partition), '[]')
        from pg_temp.publish_scope
        where mart = plan ->> 'name' and partition <> ''
    ));
end
$$;

-- Sampled statistics for the partitions that a publish has written to, if more than one row in a hundred of theirs is new.
-- To take those of the whole table means to take those of each partition.
create or replace function ops.analyze_ranges(plan jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    written regclass[];
    part regclass;
begin
    if not plan ? 'values' or plan -> 'partition' ->> 0 <> plan #>> '{ranges,column}' then
        return;
    end if;
    execute format(
        'select array_agg(part) from ops.ranges_of(%L) where lower is not null and exists ('
        'select from unnest(%L::%s[]) as value where value >= cast(lower as %3$s) and value < cast(upper as %3$s))',
        plan ->> 'table', ops.texts(plan -> 'values'), plan #>> '{ranges,type}'
    ) into written;
    if (select sum(rows_inserted + rows_deleted) from pg_temp.publish_delta where mart = plan ->> 'name')
        > (select sum(greatest(reltuples, 0)) from pg_class where oid = any(written)) / 100
    then
        foreach part in array written loop
            execute format('analyze %s', part);
        end loop;
    end if;
end
$$;

-- What changed in ranges that are archived, and so is in no published table; for people.
create or replace function ops.archived_changes(schema_name text) returns jsonb
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    plan jsonb;
    changed bigint;
    found jsonb := '[]';
begin
    for plan in
        select planned.plan from pg_temp.publish_plans as planned
        where planned.plan #>> '{ranges,from}' is not null
            and planned.plan -> 'partition' = jsonb_build_array(planned.plan #> '{ranges,column}')
        order by planned.plan ->> 'name'
    loop
        execute format(
            'select count(distinct partition) from ops.unpublished where schema_name = %L and mart = %L'
            ' and case when partition <> %L then cast(partition as %s) < %L end',
            schema_name, plan ->> 'name', '', plan #>> '{ranges,type}', plan #>> '{ranges,from}'
        ) into changed;
        if changed > 0 then
            found := found || to_jsonb(format(
                '%s: %s partition(s) that changed lie before %s and are archived: they changed in %s only.',
                plan ->> 'shown', changed, plan #>> '{ranges,from}', plan ->> 'built'
            ));
        end if;
    end loop;
    return found;
end
$$;

-- Take the ranges before a value out of a published table: they become tables of their own in the schema `archive`.
-- Nothing is published there any more, until `ops.undo_archive`. In the transaction of the caller.
create or replace function ops.archive_ranges(published regclass, before text) returns table (
    name text, part text, lower text, upper text, bytes bigint
)
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    kind text := (select type from ops.columns_of(published) as one where one.name = ops.range_column(published));
    archived_to text;
    place text;
    taken regclass;
    label text;
    mart_name constant text := (select relname from pg_class where oid = published);
    shown constant text := (
        select regexp_replace(spaces.nspname, 'personal$', 'marts')
        from pg_class as tables inner join pg_namespace as spaces on tables.relnamespace = spaces.oid
        where tables.oid = published
    );
    kept jsonb := ops.plan_now(shown, mart_name);
    gone_rows bigint := 0;
    gone_digest numeric := 0;
    gone record;
begin
    for gone in execute format(
        'select counted.* from ops.ranges_of(%L) as ranges'
        ' cross join lateral ops.digest_of(cast(ranges.part as text), %L, %L) as counted'
        ' where ranges.lower is not null and cast(ranges.upper as %s) <= cast(%L as %4$s)',
        published, ops.texts(kept -> 'columns'), kept -> 'types', kind, before
    ) loop
        gone_rows := gone_rows + gone.row_count;
        gone_digest := gone_digest + gone.digest;
    end loop;
    perform ops.lock_briefly(cast(published as text));
    for taken, part, lower, upper in execute format(
        'select part, part, lower, upper from ops.ranges_of(%L)'
        ' where lower is not null and cast(upper as %s) <= cast(%L as %2$s) order by cast(lower as %2$s)', published,
        kind, before
    ) loop
        select relname, relnamespace::regnamespace into label, place from pg_class where oid = taken;
        name := format('%s.%I', regexp_replace(place, 'partitions$', 'archive'), label);
        bytes := pg_total_relation_size(taken);
        archived_to := upper;
        if to_regclass(name) is not null then
            raise exception '% is there already, of an earlier time: drop it, or give it another name', name;
        end if;
        execute format('create schema if not exists %s', split_part(name, '.', 1));
        execute format('alter table %s detach partition %s', published, taken);
        execute format('alter table %s set schema %s', taken, split_part(name, '.', 1));
        execute format('comment on table %s is %L', name, format('%s from %s to %s, archived', published, lower, upper));
        return next;
    end loop;
    if archived_to is not null then
        select ranges.part into taken from ops.ranges_of(published) as ranges where ranges.lower is null;
        if taken is not null then
            execute format('drop table %s', taken);
        end if;
        perform ops.attach_range(
            jsonb_build_object(
                'name', (select relname from pg_class where oid = published), 'table', cast(published as text),
                'ranges', jsonb_build_object('schema', place)
            ),
            'archived', format('(minvalue) to (%L)', archived_to), false
        );
        if to_regclass(ops.history_of(shown, mart_name)) is not null then -- earlier publishes are shown without it
            execute format(
                'delete from %s where %I < %L', ops.history_of(shown, mart_name), ops.range_column(published), archived_to
            );
        end if;
        perform ops.settle_history(shown, mart_name, gone_rows, gone_digest);
    end if;
end
$$;

-- Publish a mart as a whole again: the rows come from the built table with the next publish. What was archived stays where
-- it is. Returns from where on it was published; null, if nothing was archived.
create or replace function ops.undo_archive(published regclass, schema_name text) returns text
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    closed record;
begin
    select part, upper into closed from ops.ranges_of(published) where lower is null;
    if closed.part is not null then
        perform ops.lock_briefly(cast(published as text));
        execute format('drop table %s', closed.part);
        insert into ops.unpublished (schema_name, mart, partition, invocation_id)
        select $2, relname, null, 'granary archive --undo' from pg_class where oid = published;
    end if;
    return closed.upper;
end
$$;
