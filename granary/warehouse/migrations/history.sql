-- What publishes changed is kept, so that the marts can be shown as an earlier publish left them
-- (docs/engine/decisions/0046). For each mart, the schema `publish_history` has a table of the rows that came or went since the
-- oldest publish that is kept, with
--
--     _came     by which publish; null: before that
--     _gone     by which publish; null: the newest one has it
--     _copies   how many such rows
--     _digest   of the row
--
-- Of a row that is shown and has a key, only the key is there, and whose it is: the rest is in the mart. Rows of a mart
-- without a key are never matched with each other: what comes and goes is two entries. Publishes that can be shown are
-- marked in ops.publishes (`is_kept`); what is shown now is what the last row there `shows`. The functions have the
-- rights of whoever calls them: transformer.

create or replace function ops.history_of(schema_name text, mart text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select format('%I.%I', regexp_replace(schema_name, 'marts$', 'publish_history'), mart)
$$;

-- The types whose values have no hash of their own.
create or replace function ops.unhashed() returns text language sql immutable set search_path = pg_catalog, pg_temp as $$
    select '^(bit|bit varying|money|tsvector|tsquery|json|xml|point|line|lseg|box|path|polygon|circle)($|[[(])'
$$;

-- An expression for the digest of a row. Those of a table are added up: the order of rows and columns does not matter.
create or replace function ops.row_digest(columns text[], types jsonb) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select format('hash_record_extended(row(%s), 0)', string_agg(
        quote_ident(name)
        || case when types ->> name ~ ops.unhashed() then '::text' else '' end,
        ', ' order by name collate "C"
    ))
    from unnest(columns) as name
$$;

-- Which publish is shown; null before the first.
create or replace function ops.shown_publish(schema_name text) returns bigint
language sql stable set search_path = pg_catalog, pg_temp as $$
    select coalesce(publishes.shows, publishes.publish_id)
    from ops.publishes as publishes
    where publishes.schema_name = $1
    order by publishes.publish_id desc
    limit 1
$$;

-- What is known of a mart as a publish left it. One that had not been written since records began was as it was when it
-- was written first.
create or replace function ops.mart_after(schema_name text, mart text, publish bigint) returns ops.published_marts
language sql stable set search_path = pg_catalog, pg_temp as $$
    select known.*
    from ops.published_marts as known
    inner join ops.publishes as publishes on known.publish_id = publishes.publish_id
    where publishes.schema_name = $1 and known.mart = $2
    order by known.publish_id > $3, abs(known.publish_id - $3)
    limit 1
$$;

-- The newest plan of a mart that is known: publishes that make another table of it end what can be shown before them.
create or replace function ops.plan_now(schema_name text, mart text) returns jsonb
language sql stable set search_path = pg_catalog, pg_temp as $$
    select known.plan || jsonb_build_object('schema', $1)
    from ops.published_marts as known
    inner join ops.publishes as publishes on known.publish_id = publishes.publish_id
    where publishes.schema_name = $1 and known.mart = $2
    order by known.publish_id desc
    limit 1
$$;

create or replace function ops.digest_of(relation text, columns text[], types jsonb) returns table (row_count bigint, digest numeric)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    execute format(
        'select count(*), coalesce(sum(%s), 0) from %s', ops.row_digest(columns, types), relation
    ) into row_count, digest;
    return next;
end
$$;

-- Every published mart as it is, beside what the ledger says of it: for whoever wants to know that nothing is lost.
create or replace function ops.verify_marts(schema_name text) returns table (
    mart text, publish_id bigint, row_count bigint, found_row_count bigint, digest numeric, found_digest numeric, is_same boolean
)
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    known ops.published_marts;
    relation text;
begin
    for mart in
        select distinct marts.mart
        from ops.published_marts as marts
        inner join ops.publishes as publishes on marts.publish_id = publishes.publish_id
        where publishes.schema_name = $1
        order by 1
    loop
        known := ops.mart_after(schema_name, mart, ops.shown_publish(schema_name));
        publish_id := known.publish_id;
        row_count := known.row_count;
        digest := known.digest;
        found_row_count := null;
        found_digest := null;
        -- Whoever asks may have more rights than who wrote the plan: a table, and nothing else.
        relation := (
            select cast(cast(tables.oid as regclass) as text) from pg_class as tables
            where tables.oid = to_regclass(ops.plan_now($1, mart) ->> 'published') and tables.relkind in ('r', 'p')
        );
        if relation is not null then
            select found.row_count, found.digest into found_row_count, found_digest
            from ops.digest_of(relation, ops.texts(known.plan -> 'columns'), known.plan -> 'types') as found;
        end if;
        is_same := coalesce(row_count = found_row_count and digest = found_digest, false);
        return next;
    end loop;
end
$$;

-- What is kept of a plan: what it takes to write the mart, and to show it to its readers, without dbt.
create or replace function ops.kept_plan(plan jsonb) returns jsonb
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select jsonb_object_agg(key, value) || jsonb_build_object('table', plan -> 'published', 'way', 'change')
    from jsonb_each(plan)
    where key in (
        'name', 'published', 'shown', 'has_view', 'columns', 'types', 'view_types', 'key', 'partition', 'day', 'measures',
        'masked', 'grants', 'ranges', 'subjects'
    )
$$;

-- The table of what is kept of a mart, with the columns that it has now.
create or replace function ops.make_history(plan jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    kept text := ops.history_of(plan ->> 'schema', plan ->> 'name');
    missing record;
begin
    if to_regclass(kept) is null then
        execute format('create schema if not exists %I', split_part(ops.history_of(plan ->> 'schema', 'x'), '.', 1));
        execute format(
            'create table %s as select cast(null as bigint) as _came, cast(null as bigint) as _gone,'
            ' cast(null as integer) as _copies, cast(null as bigint) as _digest, rows.* from %s as rows limit 0',
            kept, plan ->> 'table'
        );
        if ops.has_key(plan) then
            execute format(
                'create index on %s (%s) where _gone is null', kept, ops.column_list(ops.texts(plan -> 'key'))
            );
        end if;
        execute format('comment on table %s is %L', kept, format('What publishes changed in %s.', plan ->> 'shown'));
    end if;
    for missing in
        select mine.name, mine.type
        from ops.columns_of((plan ->> 'table')::regclass) as mine
        where mine.name not in (select theirs.name from ops.columns_of(kept::regclass) as theirs)
    loop
        perform ops.lock_briefly(kept);
        execute format('alter table %s add column %I %s', kept, missing.name, missing.type);
    end loop;
end
$$;

-- The rows of a relation, as they are counted.
create or replace function ops.counted_rows(plan jsonb, relation text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select format(
        '(select %s as day, %s as _digest%s from %s) as counted', plan ->> 'day',
        ops.row_digest(ops.texts(plan -> 'columns'), plan -> 'types'),
        (select coalesce(string_agg(format(', %I', name), ''), '') from jsonb_array_elements_text(plan -> 'measures') as name),
        relation
    )
$$;

-- Whether there is a key, and none of its columns may be null: then it finds each row.
create or replace function ops.has_key(plan jsonb) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select plan -> 'key' <> '[]' and not exists (
        select from jsonb_array_elements_text(plan -> 'key') as name
        where not exists (
            select from pg_attribute as columns
            where columns.attrelid = to_regclass(plan ->> 'published') and columns.attname = name and columns.attnotnull
        )
    )
$$;

create or replace function ops.same_key(plan jsonb, here text, there text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select string_agg(format('%s.%I = %s.%I', here, name, there, name), ' and ')
    from jsonb_array_elements_text(plan -> 'key') as name
$$;

-- What of a statement keeps the rows that a publish has written (`come`): of a mart with a key, the key and whose they are.
create or replace function ops.keep_come(plan jsonb) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select format(
        'kept as (insert into %1$s (_came, _copies, _digest, %2$s) select publish_id, 1, %3$s, %2$s'
        ' from come cross join pg_temp.publish_now)',
        ops.history_of(plan ->> 'schema', plan ->> 'name'),
        ops.column_list(array(
            select name from unnest(ops.texts(plan -> 'columns')) as name
            where not ops.has_key(plan) or plan -> 'key' ? name or plan -> 'subjects' ? name or plan -> 'partition' ? name
        )),
        ops.row_digest(ops.texts(plan -> 'columns'), plan -> 'types')
    )
$$;

-- A loop over a table that is small looks cheap, and goes through what the same statement has written into it, for each row.
create or replace function ops.forbid_loops(relation text) returns void
language sql set search_path = pg_catalog, pg_temp as $$
    select set_config('enable_nestloop', case when pg_relation_size(relation::regclass) < 8388608 then 'off' else 'on' end, true)
$$;

-- Keep the rows that a publish has deleted, pg_temp.publish_gone: those that came while publishes are kept are there.
create or replace function ops.keep_gone(plan jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    kept text := ops.history_of(plan ->> 'schema', plan ->> 'name');
    names text[] := ops.texts(plan -> 'columns');
    nestloop text := current_setting('enable_nestloop');
    known text := 'true';
begin
    analyze pg_temp.publish_gone;
    if ops.has_key(plan) then
        perform ops.forbid_loops(kept);
        execute format(
            'update %s as kept set (_gone, %s) = row(publish_id, %s)'
            ' from pg_temp.publish_gone as gone cross join pg_temp.publish_now where kept._gone is null and %s',
            kept, ops.column_list(names), ops.column_list(names, 'gone.'), ops.same_key(plan, 'kept', 'gone')
        );
        known := format(
            'not exists (select from %s as kept where kept._gone = publish_id and %s)', kept, ops.same_key(plan, 'kept', 'gone')
        );
    end if;
    execute format(
        'insert into %1$s (_gone, _copies, _digest, %2$s) select publish_id, 1, %3$s, %2$s'
        ' from pg_temp.publish_gone as gone cross join pg_temp.publish_now where %4$s',
        kept, ops.column_list(names), ops.row_digest(names, plan -> 'types'), known
    );
    perform set_config('enable_nestloop', nestloop, true);
    drop table pg_temp.publish_gone;
end
$$;

-- Rows that went and came with the same values are none, in a mart whose rows are not known by a key.
create or replace function ops.net_history(plan jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    kept text := ops.history_of(plan ->> 'schema', plan ->> 'name');
    columns text := ops.column_list(ops.texts(plan -> 'columns'));
begin
    if not ops.has_key(plan) then
        execute format(
            'with now as (select publish_id from pg_temp.publish_now), changed as ('
            'delete from %1$s using now where _came = publish_id or _gone = publish_id returning *), net as ('
            ' select publish_id, _digest, %2$s, sum(case when _came = publish_id then _copies else -_copies end) as copies'
            ' from changed group by publish_id, _digest, %2$s)'
            ' insert into %1$s (_came, _gone, _copies, _digest, %2$s)'
            ' select case when copies > 0 then publish_id end, case when copies < 0 then publish_id end, abs(copies), _digest, %2$s'
            ' from net where copies <> 0', kept, columns
        );
    end if;
end
$$;

-- A publish follows what is shown: what was undone before it cannot be shown again.
create or replace function ops.drop_undone(schema_name text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    shown bigint := ops.shown_publish(schema_name);
    undone bigint[] := array(
        select publishes.publish_id from ops.publishes as publishes
        where publishes.schema_name = $1 and publishes.is_kept and publishes.publish_id > shown
    );
    kept text;
begin
    delete from ops.publish_holds as held where held.schema_name = $1 and held.node = 'operation.granary.undo';
    if undone = '{}' then
        return;
    end if;
    for kept in select distinct ops.history_of($1, marts.mart) from ops.published_marts as marts where publish_id = any(undone) loop
        if to_regclass(kept) is not null then
            execute format('delete from %s where _came > $1 or (_came is null and _gone > $1)', kept) using shown;
            execute format('update %s set _gone = null where _gone > $1', kept) using shown;
        end if;
    end loop;
    delete from ops.published_marts as marts where marts.publish_id = any(undone);
    update ops.publishes as publishes set is_kept = false where publishes.publish_id = any(undone);
end
$$;

-- The digest of marts that were published before there were digests, before they change.
create or replace function ops.digest_before(doc jsonb, plans jsonb) returns void
language sql set search_path = pg_catalog, pg_temp as $$
    insert into ops.published_marts (publish_id, mart, row_count, digest, plan)
    select previous.publish_id, plan ->> 'name', found.row_count, found.digest, kept
    from (select max(publish_id) as publish_id from ops.publishes where schema_name = doc ->> 'schema') as previous
    cross join jsonb_array_elements(plans) as plan
    cross join lateral (
        select ops.kept_plan(plan) || jsonb_build_object('columns', plan -> 'old_columns') as kept
    ) as described
    cross join lateral ops.digest_of(plan ->> 'published', ops.texts(kept -> 'columns'), plan -> 'view_types') as found
    where previous.publish_id is not null and plan ->> 'way' in ('change', 'widen')
        and (ops.mart_after(doc ->> 'schema', plan ->> 'name', previous.publish_id)).publish_id is null
$$;

-- A mart whose rows are known by something else, or of somebody else, than before: what is kept of it ends here.
create or replace function ops.end_changed(doc jsonb, plans jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    plan jsonb;
    known jsonb;
begin
    for plan in select one from jsonb_array_elements(plans) as one where one ->> 'way' in ('change', 'widen') loop
        known := ops.plan_now(doc ->> 'schema', plan ->> 'name');
        if (known -> 'key', known -> 'subjects', known -> 'partition')
            is distinct from (plan -> 'key', plan -> 'subjects', plan -> 'partition')
        then
            perform ops.end_history(plan);
            perform ops.end_line(doc ->> 'schema');
        end if;
    end loop;
end
$$;

-- No publish up to now can be shown any more.
create or replace function ops.end_line(schema_name text) returns void
language sql set search_path = pg_catalog, pg_temp as $$
    update ops.publishes as publishes set is_kept = false where publishes.schema_name = $1 and publishes.is_kept
$$;

-- What the marts are after a publish. The digest of one whose rows change is the one before and what came and went.
create or replace function ops.keep_publish(doc jsonb, plans jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    publish bigint := (select publish_id from pg_temp.publish_now);
    plan jsonb;
    known ops.published_marts;
    changed record;
begin
    for plan in select jsonb_array_elements(plans) loop
        known := ops.mart_after(doc ->> 'schema', plan ->> 'name', publish);
        select
            coalesce(sum(rows_inserted), 0) as came, coalesce(sum(rows_deleted), 0) as went, coalesce(sum(digest), 0) as digest
        into changed
        from pg_temp.publish_delta
        where mart = plan ->> 'name';
        if plan ->> 'way' in ('create', 'replace') then
            known.row_count := changed.came;
            known.digest := changed.digest;
        elsif known.digest is null or ops.texts(known.plan -> 'columns') @> ops.texts(plan -> 'columns') is not true then
            select found.row_count, found.digest into known.row_count, known.digest
            from ops.digest_of(plan ->> 'published', ops.texts(plan -> 'columns'), plan -> 'types') as found;
        else
            known.row_count := known.row_count + changed.came - changed.went;
            known.digest := known.digest + changed.digest;
        end if;
        insert into ops.published_marts (publish_id, mart, row_count, digest, plan)
        values (publish, plan ->> 'name', known.row_count, known.digest, ops.kept_plan(plan));
    end loop;
    if exists (select from jsonb_array_elements(plans) as one where one ->> 'way' in ('create', 'replace')) then
        perform ops.end_line(doc ->> 'schema');
    end if;
    update ops.publishes set is_kept = true where publish_id = publish;
    for plan in select one from jsonb_array_elements(plans) as one where ops.forget_vanished(doc, one) loop
        perform ops.settle_history(doc ->> 'schema', plan ->> 'name');
    end loop;
end
$$;

-- While an erasure is at work: of rows that went, those of a data subject of whom the mart has no row any more are not kept.
create or replace function ops.forget_vanished(doc jsonb, plan jsonb) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    kept text := ops.history_of(doc ->> 'schema', plan ->> 'name');
    subject text;
    gone bigint;
    found boolean := false;
begin
    if to_regclass(kept) is null or not exists (select from ops.erasures where finished_at is null) then
        return false;
    end if;
    for subject in
        select columns.key
        from jsonb_array_elements(doc -> 'nodes') as node
        cross join lateral jsonb_each(node -> 'columns') as columns
        where node ->> 'id' = plan ->> 'node' and columns.value ->> 'subject' is not null
            and plan -> 'columns' ? columns.key
    loop
        execute format(
            'delete from %1$s as gone where _gone = (select publish_id from pg_temp.publish_now)'
            ' and %2$I is not null and %2$I not in (select %2$I from %3$s where %2$I is not null)',
            kept, subject, plan ->> 'built'
        );
        get diagnostics gone = row_count;
        found := found or gone > 0;
    end loop;
    return found;
end
$$;

-- After rows were taken out of what is kept of a mart, or out of the mart itself (how many, and their digest): what it was
-- after each publish, anew.
create or replace function ops.settle_history(
    schema_name text, mart text, gone_rows bigint default 0, gone_digest numeric default 0
) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    shown bigint := ops.shown_publish(schema_name);
    kept text := ops.history_of(schema_name, mart);
    now ops.published_marts := ops.mart_after(schema_name, mart, shown);
begin
    if now.publish_id is null then
        return;
    end if;
    now.row_count := now.row_count - gone_rows;
    now.digest := now.digest - gone_digest;
    update ops.published_marts as known set row_count = now.row_count, digest = now.digest
    where known.publish_id = now.publish_id and known.mart = $2 and (gone_rows, gone_digest) is distinct from (0, 0);
    if to_regclass(kept) is null then
        return;
    end if;
    execute format(
        'with kept as materialized ('
        ' select coalesce(_came, 0) as came, _gone as gone, sum(_copies) as row_count, sum(_copies * cast(_digest as numeric)) as digest'
        ' from %s group by _came, _gone'
        '), moved as ('
        ' select known.publish_id, sum(sign * kept.row_count) as row_count, sum(sign * kept.digest) as digest'
        ' from ops.published_marts as known cross join kept cross join lateral ('
        ' select (came <= known.publish_id and (gone > known.publish_id) is not false)::integer'
        ' - (came <= $1 and (gone > $1) is not false)::integer as sign) as signs'
        ' where known.mart = $2 group by known.publish_id'
        ') update ops.published_marts as known set row_count = $3 + coalesce(moved.row_count, 0),'
        ' digest = case when known.plan -> ''columns'' @> $5 and $5 @> (known.plan -> ''columns'')'
        ' then $4 + coalesce(moved.digest, 0) end'
        ' from moved inner join ops.publishes as publishes on moved.publish_id = publishes.publish_id'
        ' where known.publish_id = moved.publish_id and known.mart = $2 and publishes.schema_name = $6'
        ' and known.publish_id <> $7', kept
    ) using shown, mart, now.row_count, now.digest, now.plan -> 'columns', schema_name, now.publish_id;
end
$$;

-- What differs between what is shown and another publish, of one mart: rows, and how many of each have to come, or to go if
-- negative. A query. Of a row that has to go, and has a key, only the key is sure to be there.
create or replace function ops.net_query(plan jsonb, shown text, target bigint) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select format(
        case when ops.has_key(plan) then 'select %1$s, case when %3$s then _copies else -_copies end as _copies from %2$s where (%3$s) <> (%4$s)'
            else 'select %1$s, sum(case when %3$s then _copies else -_copies end) as _copies from %2$s where (%3$s) <> (%4$s)'
            ' group by %1$s having sum(case when %3$s then _copies else -_copies end) <> 0' end,
        ops.column_list(ops.texts(plan -> 'columns')),
        ops.history_of(plan ->> 'schema', plan ->> 'name'),
        format('coalesce(_came, 0) <= %1$s and (_gone > %1$s) is not false', target),
        format('coalesce(_came, 0) <= %1$s and (_gone > %1$s) is not false', shown)
    )
$$;

-- Write one mart as another publish left it, by what is kept; nothing but insert and delete. What goes and has not gone by
-- the newest publish is kept as a whole from then on.
create or replace function ops.show_mart(plan jsonb, shown bigint, target bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp set work_mem = '128MB' as $$
declare
    published text := plan ->> 'published';
    names text[] := ops.texts(plan -> 'columns');
    columns text := ops.column_list(names);
    measures text[] := ops.texts(plan -> 'measures');
    gone text := ops.add_to_delta(plan, ops.counted_rows(plan, 'gone'), 'count(*)', measures, -1);
    kept text := ops.history_of(plan ->> 'schema', plan ->> 'name');
    nestloop text := current_setting('enable_nestloop');
begin
    execute format(
        'create temporary table publish_net on commit drop as %s', ops.net_query(plan, cast(shown as text), target)
    );
    analyze pg_temp.publish_net;
    if ops.has_key(plan) then
        execute format('create temporary table publish_gone on commit drop as select %s from %s limit 0', columns, published);
        execute format(
            'with gone as (delete from %s as old using pg_temp.publish_net as net where net._copies < 0 and %s returning %s),'
            ' kept as (insert into pg_temp.publish_gone select * from gone) %s',
            published, ops.same_key(plan, 'old', 'net'), ops.column_list(names, 'old.'), gone
        );
        analyze pg_temp.publish_gone;
        perform ops.forbid_loops(kept);
        execute format(
            'update %s as kept set (%s) = row(%s) from pg_temp.publish_gone as gone'
            ' where kept._gone is null and kept._came <= %s and %s',
            kept, columns, ops.column_list(names, 'gone.'), shown, ops.same_key(plan, 'kept', 'gone')
        );
        perform set_config('enable_nestloop', nestloop, true);
        drop table pg_temp.publish_gone;
    else
        execute format(
            'with numbered as materialized (select old.tableoid as place, old.ctid as row_place, net._copies as copies,'
            ' row_number() over (partition by %1$s) as position'
            ' from (select *, tableoid, ctid, %2$s as _digest from %3$s) as old'
            ' inner join (select *, %2$s as _digest from pg_temp.publish_net where _copies < 0) as net'
            ' on old._digest = net._digest and (%1$s) is not distinct from (%4$s)'
            '), gone as (delete from %3$s as old using numbered where old.tableoid = numbered.place'
            ' and old.ctid = numbered.row_place and numbered.position <= -numbered.copies returning %1$s) %5$s',
            ops.column_list(names, 'old.'), ops.row_digest(names, plan -> 'types'), published, ops.column_list(names, 'net.'), gone
        );
    end if;
    if plan #>> '{ranges,column}' is not null then
        perform ops.make_ranges(plan || '{"built": "pg_temp.publish_net"}', 'new._copies > 0');
    end if;
    begin
        execute format(
            'with come as (insert into %1$s (%2$s) select %3$s from pg_temp.publish_net as net'
            ' cross join generate_series(1, net._copies) where net._copies > 0 returning %2$s) %4$s',
            published, columns, ops.column_list(names, 'net.'),
            ops.add_to_delta(plan, ops.counted_rows(plan, 'come'), 'count(*)', measures, 1)
        );
    exception when unique_violation then
        raise exception 'nothing was changed: % has rows of the same key as those that were there before: somebody wrote to'
            ' it, or an erasure is at work (then: granary forget --again)', plan ->> 'shown';
    end;
    drop table pg_temp.publish_net;
end
$$;

-- What differs from the newest publish is to be published: by partition, where rows of one column say which.
create or replace function ops.wait_for_release(plan jsonb, target bigint, mark text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    partition text := plan -> 'partition' ->> 0;
begin
    insert into ops.unpublished (schema_name, mart, partition, invocation_id)
    values (
        plan ->> 'schema', plan ->> 'name',
        case when jsonb_array_length(nullif(plan -> 'partition', 'null')) = 1 and partition <> '*' then '' end, mark
    );
    if jsonb_array_length(nullif(plan -> 'partition', 'null')) = 1 and partition <> '*' then
        execute format(
            'insert into ops.unpublished (schema_name, mart, partition, invocation_id)'
            ' select distinct %L, %L, cast(%I as text), %L from %s where _came > %s or _gone > %6$s',
            plan ->> 'schema', plan ->> 'name', partition, mark,
            ops.history_of(plan ->> 'schema', plan ->> 'name'), target
        );
    end if;
end
$$;

-- Show all marts as a publish left them, in the transaction of the caller, who has the lock of publishing. Readers see
-- them before or after. Whatever is built meanwhile waits, until the newest publish is shown again or somebody releases it.
create or replace function ops.show_publish(schema_name text, target bigint, invocation text default 'an undo') returns table (
    mart text, rows_inserted bigint, rows_deleted bigint
)
language plpgsql set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    mark constant text := 'granary publish --undo';
    hold constant text := 'operation.granary.undo';
    shown bigint := ops.shown_publish($1);
    head bigint := (select max(publish_id) from ops.publishes as kept where kept.schema_name = $1 and kept.is_kept);
    plan jsonb;
    before ops.published_marts;
    after ops.published_marts;
    found_rows numeric;
    found_digest numeric;
begin
    if not exists (
        select from ops.publishes as kept where kept.schema_name = $1 and kept.publish_id = target and kept.is_kept
    ) then
        raise exception 'nothing was changed: publish % is not one that % can be shown as', target, $1;
    end if;
    perform set_config('synchronous_commit', reset_val, true) from pg_settings where name = 'synchronous_commit';
    perform ops.begin_publish($1);
    for plan in
        select ops.plan_now($1, changed.mart)
        from (
            select distinct marts.mart from ops.published_marts as marts
            inner join ops.publishes as publishes on marts.publish_id = publishes.publish_id
            where publishes.schema_name = $1 and marts.publish_id > least(shown, target)
                and marts.publish_id <= greatest(shown, target)
        ) as changed
        order by changed.mart
    loop
        continue when to_regclass(ops.history_of($1, plan ->> 'name')) is null; -- nothing of it ever changed
        if to_regclass(plan ->> 'published') is null then
            raise exception 'nothing was changed: % is not there any more', plan ->> 'published';
        end if;
        perform ops.show_mart(plan, shown, target);
        before := ops.mart_after($1, plan ->> 'name', shown);
        after := ops.mart_after($1, plan ->> 'name', target);
        select
            before.row_count + coalesce(sum(delta.rows_inserted - delta.rows_deleted), 0),
            before.digest + coalesce(sum(delta.digest), 0)
        into found_rows, found_digest
        from pg_temp.publish_delta as delta
        where delta.mart = plan ->> 'name';
        if not (before.plan -> 'columns' @> (after.plan -> 'columns') and after.plan -> 'columns' @> (before.plan -> 'columns')) then
            select counted.row_count, counted.digest into found_rows, found_digest
            from ops.digest_of(plan ->> 'published', ops.texts(after.plan -> 'columns'), after.plan -> 'types') as counted;
        end if;
        if found_rows <> after.row_count or found_digest <> after.digest then
            raise exception 'nothing was changed: % would not be what it was after publish %: somebody wrote to it, or what'
                ' is kept of it is not whole', plan ->> 'shown', target;
        end if;
    end loop;
    insert into ops.publishes (
        publish_id, schema_name, invocation_id, started_at, marts, rows_inserted, rows_deleted, last_date, loads_seen, shows
    )
    overriding system value
    select
        now.publish_id, $1, invocation, now.started_at,
        array(select distinct delta.mart from pg_temp.publish_delta as delta order by 1),
        coalesce((select sum(delta.rows_inserted) from pg_temp.publish_delta as delta), 0),
        coalesce((select sum(delta.rows_deleted) from pg_temp.publish_delta as delta), 0),
        (select max(earlier.last_date) from ops.publishes as earlier where earlier.schema_name = $1), its.loads_seen, target
    from pg_temp.publish_now as now
    cross join ops.publishes as its
    where its.publish_id = target;
    perform ops.write_months($1, false);

    delete from ops.unpublished as waiting where waiting.schema_name = $1 and waiting.invocation_id = mark;
    delete from ops.publish_holds as held where held.schema_name = $1 and held.node = hold;
    if target < head then
        insert into ops.publish_holds (schema_name, node, reason, invocation_id)
        values ($1, hold, format('keeps publish %s shown until `granary publish --redo` or `--release`', target), mark);
        for plan in
            select ops.plan_now($1, changed.mart)
            from (
                select distinct marts.mart from ops.published_marts as marts
                inner join ops.publishes as publishes on marts.publish_id = publishes.publish_id
                where publishes.schema_name = $1 and marts.publish_id > target and marts.publish_id <= head
            ) as changed
        loop
            continue when to_regclass(ops.history_of($1, plan ->> 'name')) is null;
            perform ops.wait_for_release(plan, target, mark);
        end loop;
    end if;
    return query
        select delta.mart, cast(sum(delta.rows_inserted) as bigint), cast(sum(delta.rows_deleted) as bigint)
        from pg_temp.publish_delta as delta group by delta.mart order by delta.mart;
end
$$;

-- A view that reads a mart as a publish left it fails with this once that is not kept.
create or replace function ops.check_kept(is_kept boolean, publish bigint) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    if not is_kept then
        raise exception 'what publish % left is not kept any more', publish
            using hint = '`granary publish` lists what is';
    end if;
    return true;
end
$$;

create or replace function ops.as_of_schema(schema_name text, target bigint) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select regexp_replace(schema_name, 'marts$', 'as_of_' || target)
$$;

-- The views that read a mart as earlier publishes left it: they are made by people, and follow what the mart is.
create or replace function ops.as_of_views(schema_name text, mart text) returns table (view regclass, target bigint)
language sql stable set search_path = pg_catalog, pg_temp as $$
    select views.oid, cast(substring(spaces.nspname from '\d+$') as bigint)
    from pg_class as views
    inner join pg_namespace as spaces on views.relnamespace = spaces.oid
    where views.relkind = 'v' and views.relname = mart and pg_get_userbyid(views.relowner) = current_user
        and spaces.nspname ~ ('^' || regexp_replace(schema_name, 'marts$', 'as_of_\d+$'))
$$;

-- The rows of a mart as a publish left them. A query.
create or replace function ops.as_of_query(plan jsonb, target bigint) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select format(case
        when to_regclass(ops.history_of(plan ->> 'schema', plan ->> 'name')) is null then 'select %1$s from %2$s where %5$s'
        when ops.has_key(plan) then
            'with net as materialized (%3$s) select %1$s from ('
            'select %1$s from %2$s as now where not exists (select from net where _copies < 0 and %4$s)'
            ' union all select %1$s from net where _copies > 0) as past where %5$s'
        else
            'select %1$s from (select %1$s, sum(_copies) as _copies from ('
            'select %1$s, 1 as _copies from %2$s union all %3$s) as rows group by %1$s) as past'
            ' cross join lateral generate_series(1, _copies) where %5$s'
        end,
        ops.column_list(ops.texts(plan -> 'columns')),
        plan ->> 'published',
        ops.net_query(plan, format(
            '(select coalesce(shows, publish_id) from ops.publishes where schema_name = %L order by publish_id desc limit 1)',
            plan ->> 'schema'
        ), target),
        ops.same_key(plan, 'net', 'now'),
        format('(select ops.check_kept(exists (select from ops.publishes where publish_id = %1$s and is_kept), %1$s))', target)
    )
$$;

-- Make or renew the view of one mart as a publish left it, for those who read the mart.
create or replace function ops.show_mart_as_of(plan jsonb, target bigint) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    shown text := format('%I.%I', ops.as_of_schema(plan ->> 'schema', target), plan ->> 'name');
begin
    perform ops.show_masked(plan || jsonb_build_object('shown', shown), ops.texts(plan -> 'columns'), format('(%s) as past', ops.as_of_query(plan, target)));
    perform ops.grant_relation(shown, plan -> 'grants');
end
$$;

-- A schema with a view of each mart as a publish left it. Returns its name, and its views.
create or replace function ops.show_as_of(schema_name text, target bigint) returns table (schema text, marts text[])
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    plan jsonb;
    plans jsonb := '[]';
begin
    schema := ops.as_of_schema(schema_name, target);
    if (select pg_get_userbyid(nspowner) <> current_user from pg_namespace where nspname = schema) then
        raise exception 'nothing was changed: there is a schema % already, and it is somebody else''s', schema;
    end if;
    execute format('create schema if not exists %I', schema);
    for plan in
        select ops.plan_now($1, known.mart)
        from (
            select distinct known.mart from ops.published_marts as known
            inner join ops.publishes as publishes on known.publish_id = publishes.publish_id
            where publishes.schema_name = $1
        ) as known
    loop
        continue when to_regclass(plan ->> 'published') is null;
        plan := plan || jsonb_build_object('columns', (ops.mart_after($1, plan ->> 'name', target)).plan -> 'columns');
        perform ops.show_mart_as_of(plan, target);
        plans := plans || plan;
    end loop;
    perform ops.grant_schema(schema, jsonb_path_query_array(plans, '$[*].grants'));
    marts := array(select one ->> 'name' from jsonb_array_elements(plans) as one order by 1);
    return next;
end
$$;

-- The views that stand on a mart, or on a view of it of an earlier publish.
create or replace function ops.people_views_on(schema_name text, mart text, relation regclass) returns setof text
language sql stable set search_path = pg_catalog, pg_temp as $$
    with ours as materialized (select view from ops.as_of_views($1, $2))
    select found
    from (select relation as stands_on union select view from ours) as places
    cross join lateral ops.views_on(stands_on) as found
    where to_regclass(found) not in (select view from ours)
$$;

-- Another table takes the place of a mart's: what is kept of the old one cannot be shown in it.
create or replace function ops.end_history(plan jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    kept text := ops.history_of(plan ->> 'schema', plan ->> 'name');
    one text;
begin
    for one in select cast(views.view as text) from ops.as_of_views(plan ->> 'schema', plan ->> 'name') as views loop
        perform ops.lock_briefly(one);
        execute format('drop view %s', one);
    end loop;
    execute format('drop table if exists %s', kept);
end
$$;

-- What is published of a mart is another, or others read it: its views of earlier publishes follow.
create or replace function ops.renew_as_of(schema_name text, mart text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    seen bigint;
    plan jsonb;
begin
    for seen in
        select views.target
        from ops.as_of_views($1, $2) as views
        inner join ops.publishes as publishes on views.target = publishes.publish_id and publishes.is_kept
    loop
        plan := ops.plan_now($1, $2);
        plan := plan || jsonb_build_object('columns', (ops.mart_after($1, $2, seen)).plan -> 'columns');
        perform ops.show_mart_as_of(plan, seen);
    end loop;
end
$$;

-- Keep so many publishes before the newest one, and no more bytes of what they changed than a share of what is published;
-- of the others nothing. Returns how many are given up.
create or replace function ops.prune_history(schema_name text, publishes integer default 30, share numeric default 0.3) returns integer
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    marts constant text[] := array(
        select distinct known.mart from ops.published_marts as known
        inner join ops.publishes as its on known.publish_id = its.publish_id
        where its.schema_name = $1
    );
    kept constant text[] := array(
        select ops.history_of($1, mart) from unnest(marts) as mart where to_regclass(ops.history_of($1, mart)) is not null
    );
    allowed constant numeric := share * (
        select coalesce(sum(pg_total_relation_size(part)), 0)
        from unnest(marts) as mart
        cross join lateral (select to_regclass(ops.plan_now($1, mart) ->> 'published') as whole) as published
        cross join lateral (select whole as part union all select ranges.part from ops.ranges_of(whole) as ranges) as parts
    );
    oldest bigint;
    gone bigint[];
    one text;
    is_needed boolean;
begin
    create temporary table publish_sizes (publish_id bigint, bytes numeric) on commit drop;
    if (select sum(pg_total_relation_size(place::regclass)) from unnest(kept) as place) > allowed then
        foreach one in array kept loop
            execute format(
                'insert into pg_temp.publish_sizes select coalesce(_gone, _came), sum(pg_column_size(rows)) from %s as rows group by 1',
                one
            );
        end loop;
    end if;
    select least(min(publish_id), ops.shown_publish($1)) into oldest
    from (
        select
            known.publish_id, row_number() over newest_first as place,
            coalesce(sum(sizes.bytes) over (newest_first rows between unbounded preceding and 1 preceding), 0) as later_bytes
        from ops.publishes as known
        left join (
            select sizes.publish_id, sum(bytes) as bytes from pg_temp.publish_sizes as sizes group by sizes.publish_id
        ) as sizes on known.publish_id = sizes.publish_id
        where known.schema_name = $1 and known.is_kept
        window newest_first as (order by known.publish_id desc)
    ) as known
    where place <= $2 + 1 and later_bytes <= allowed;
    drop table pg_temp.publish_sizes;
    gone := array(
        select known.publish_id from ops.publishes as known
        where known.schema_name = $1 and known.is_kept and known.publish_id < oldest
    );
    if gone <> '{}' then
        update ops.publishes as known set is_kept = false where known.publish_id = any(gone);
        perform ops.drop_as_of($1, publish_id) from unnest(gone) as publish_id;
    end if;
    foreach one in array kept loop
        execute format('select exists (select from %s where _gone > $1 or (_gone is null and _came > $1))', one)
        into is_needed using oldest;
        if is_needed then
            execute format('delete from %s where _gone <= $1 or (_gone is null and _came <= $1)', one) using oldest;
        elsif pg_relation_size(one) > 0 then
            perform ops.lock_briefly(one);
            execute format('truncate %s', one);
        end if;
    end loop;
    delete from ops.published_marts as known
    using ops.publishes as its
    where known.publish_id = its.publish_id and its.schema_name = $1 and known.publish_id < (
        select max(later.publish_id) from ops.published_marts as later
        inner join ops.publishes as theirs on later.publish_id = theirs.publish_id
        where theirs.schema_name = $1 and later.mart = known.mart and later.publish_id <= oldest
    );
    return cardinality(gone);
end
$$;

-- Drop the views of a publish, but those that views of people stand on: they fail once it is not kept.
create or replace function ops.drop_as_of(schema_name text, target bigint) returns boolean
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '1s' as $$
declare
    place regnamespace := to_regnamespace(quote_ident(ops.as_of_schema(schema_name, target)));
    view regclass;
begin
    if place is null then
        return false;
    end if;
    for view in select oid from pg_class where relnamespace = place and relkind = 'v' loop
        execute format('drop view %s', view);
    end loop;
    execute format('drop schema %s', place);
    return true;
exception when dependent_objects_still_exist or lock_not_available then
    return false;
end
$$;

-- What is kept of marts that the project does not have any more: nobody would look for data subjects there.
create or replace function ops.drop_history_of_vanished(doc jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    gone text;
begin
    for gone in
        select distinct known.mart
        from ops.published_marts as known
        inner join ops.publishes as publishes on known.publish_id = publishes.publish_id
        where publishes.schema_name = doc ->> 'schema'
            and known.mart not in (select mart ->> 'name' from ops.marts(doc) as mart)
    loop
        perform ops.end_history(jsonb_build_object('schema', doc ->> 'schema', 'name', gone));
        delete from ops.published_marts as known
        using ops.publishes as publishes
        where known.publish_id = publishes.publish_id and publishes.schema_name = doc ->> 'schema' and known.mart = gone;
    end loop;
end
$$;

-- Let what is built be published over what an undo shows. Returns whether one held it.
create or replace function ops.release_undo(schema_name text) returns boolean
language sql set search_path = pg_catalog, pg_temp as $$
    with gone as (
        delete from ops.publish_holds as held
        where held.schema_name = $1 and held.node = 'operation.granary.undo' returning 1
    )
    select exists (select from gone)
$$;
