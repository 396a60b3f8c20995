-- Increments: a model that declares what it is partitioned by overwrites the partitions that changed, by difference, and
-- hands the rows that differ on to the models that read it (docs/engine/decisions/0037). dbt describes the model:
--
--     doc    {model, grain, partition, columns, fingerprint, invocation, inputs, log, log_relation, asked, state}
--     inputs {model: by}, which says what a change there means here:
--                all                everything is computed again, and what differs is written
--                never              nothing
--                rebuild [if ...]   the model is built anew (if one of the changed rows meets the condition)
--                an expression      the partition that a changed row of the input is in
--                a query            the partitions, from the rows that changed, `changes`
--     log    a query for the partitions that loads changed, of a model that reads the raw tables
--     log_relation  the log that it asks
--     asked  a query for partitions that somebody wants overwritten
--
-- The functions have the rights of whoever calls them: transformer.

-- The relation of a model, SCHEMA.NAME, and the table beside it of the rows in which its versions differ.
create or replace function ops.relation_of(model text, ending text default '') returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select format('%I.%I', split_part(model, '.', 1), split_part(model, '.', 2) || ending)
$$;

create or replace function ops.delta_of(model text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select ops.relation_of(model, '__delta')
$$;

-- Which version of an input a model has taken in,
create or replace function ops.version_seen(model text, input text) returns bigint
language sql stable set search_path = pg_catalog, pg_temp as $$
    select cast(states.inputs ->> $2 as bigint) from ops.model_states as states where states.model = $1
$$;

-- and those since: null if there are none.
create or replace function ops.unseen_versions(doc jsonb, input text) returns table (seen bigint, latest bigint, is_whole boolean)
language sql stable set search_path = pg_catalog, pg_temp as $$
    select states.version, max(versions.version), bool_or(versions.is_whole)
    from (select coalesce(ops.version_seen(doc ->> 'model', input), 0) as version) as states
    left join ops.model_versions as versions on versions.model = input and versions.version > states.version
    group by states.version
$$;

-- What an increment of a model has to do:
--     rebuild  its code or its columns are others, an input was built anew, or asks for it
--     all      compute everything and write what differs
--     some     compute the partitions that changed
--     none     nothing that it reads has changed
create or replace function ops.increment_state(doc jsonb) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    state ops.model_states;
    result text := case when coalesce(doc ->> 'log', doc ->> 'asked') is null then 'none' else 'some' end;
    input text;
    how text;
    unseen record;
    condition text;
    is_met boolean;
begin
    select * into state from ops.model_states where model = doc ->> 'model';
    if state.model is null or state.fingerprint <> doc ->> 'fingerprint' then
        return 'rebuild';
    end if;
    if jsonb_typeof(doc -> 'columns') = 'array' and (
        select array_agg(name order by name) from ops.columns_of(to_regclass(ops.relation_of(doc ->> 'model')))
    ) is distinct from (
        select array_agg(name order by name) from jsonb_array_elements_text(doc -> 'columns') as name
    ) then
        return 'rebuild'; -- somebody changed the table
    end if;
    if doc -> 'inputs' = 'null' then
        return case when result = 'none' then 'all' else result end;
    end if;
    for input, how in select key, value from jsonb_each_text(doc -> 'inputs') loop
        continue when how = 'never';
        if not state.inputs ? input then
            return 'rebuild';
        end if;
        select * into unseen from ops.unseen_versions(doc, input);
        continue when unseen.latest is null;
        if how = 'all' then
            result := 'all';
            continue;
        elsif unseen.is_whole then
            return 'rebuild';
        end if;
        condition := substring(how from '^rebuild(?: if (.*))?$');
        if how ~ '^rebuild' then
            execute format(
                'select exists (select from %s as changes where version > %s and (%s))', ops.delta_of(input), unseen.seen,
                coalesce(condition, 'true')
            ) into is_met;
            if is_met then
                return 'rebuild';
            end if;
        elsif result = 'none' then
            result := 'some';
        end if;
    end loop;
    return result;
end
$$;

-- Write down the partitions that changed, in the temporary table granary_partitions: once per build of a model, for its
-- query, for what it deletes and for its audit.
create or replace function ops.find_partitions(doc jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    columns text[] := ops.texts(doc -> 'partition');
    query text;
begin
    execute format(
        'create temporary table granary_partitions on commit drop as select %s from %s limit 0',
        ops.column_list(columns), ops.relation_of(doc ->> 'model')
    );
    if doc ->> 'log' is not null then
        execute format('insert into pg_temp.granary_partitions %s', doc ->> 'log');
    end if;
    for query in
        select format(
            'with changes as (select * from %s where version > %s)%s', ops.delta_of(input), unseen.seen,
            case when how ~* '^(select|with)\s' then format(' select queried.* from (%s) as queried', how)
                else format(' select distinct %s from changes', how) end
        )
        from jsonb_each_text(case jsonb_typeof(doc -> 'inputs') when 'object' then doc -> 'inputs' else '{}' end)
            as items (input, how)
        cross join lateral ops.unseen_versions(doc, input) as unseen
        where unseen.latest is not null and how !~ '^(all|never|rebuild.*)$'
    loop
        execute format('insert into pg_temp.granary_partitions select found.* from (%s) as found', query);
    end loop;
    if doc ->> 'asked' is not null then
        execute format(
            'create temporary table granary_asked on commit drop as %s except select * from pg_temp.granary_partitions',
            doc ->> 'asked'
        );
        insert into pg_temp.granary_partitions select * from pg_temp.granary_asked;
    end if;
    analyze pg_temp.granary_partitions;
    if doc ->> 'log_relation' is not null then
        perform ops.refuse_archived(doc);
    end if;
end
$$;

-- Raw rows that lie in an archive are not seen by a model. Whoever computes from raw tables says which, and has the lock
-- until its transaction ends: rows leave a raw table only while nobody has it.
create or replace function ops.archive_lock() returns bigint
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select cast(hashtext('granary.archive') as bigint)
$$;

create or replace function ops.restore_command(archived bigint[]) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select string_agg(format(
        'granary archive-raw %s.%s --restore --since %s --until %s', source, table_name,
        to_char(data_from, 'YYYY-MM-DD'), to_char(data_until, 'YYYY-MM-DD')
    ), '; ' order by source, table_name)
    from (
        select source, table_name, min(data_from) as data_from, max(data_until) as data_until
        from ops.archives
        where archive_id = any(archived)
        group by source, table_name
    ) as files
$$;

-- Of raw tables, [[source, table], ...], what brings those rows back: null if none is away.
create or replace function ops.archived_rows(tables jsonb) returns text
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    archived bigint[];
begin
    perform pg_advisory_xact_lock_shared(ops.archive_lock());
    archived := array(
        select distinct loads.archive_id
        from ops.load_audit as loads
        inner join jsonb_array_elements(tables) as named
            on loads.source = named ->> 0 and loads.table_name = named ->> 1
        where loads.archive_id is not null and loads.superseded_by is null
    );
    return ops.restore_command(archived) || ' (archived files: ' || array_to_string(archived, ', ') || ')';
end
$$;

-- The same of the partitions that are overwritten, by the log that knows which loads have rows in which.
create or replace function ops.refuse_archived(doc jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    columns text[] := ops.texts(doc -> 'partition');
    archived bigint[];
begin
    perform pg_advisory_xact_lock_shared(ops.archive_lock());
    if not exists (select from ops.load_audit where archive_id is not null and superseded_by is null) then
        return;
    end if;
    execute format(
        'select array(select distinct loads.archive_id from ops.load_audit as loads inner join %s as log'
        ' on log.load_id = loads.load_id and log.source = loads.source'
        ' where loads.archive_id is not null and loads.superseded_by is null'
        ' and (%s) in (select %s from pg_temp.granary_partitions))',
        doc ->> 'log_relation', ops.column_list(columns, 'log.'), ops.column_list(columns)
    ) into archived;
    if archived <> '{}' then
        raise exception '% has to compute partitions of which raw rows lie in an archive (archived files: %). Bring them back and run this again: %',
            doc ->> 'model', array_to_string(archived, ', '), ops.restore_command(archived);
    end if;
end
$$;

-- A condition for the rows of the partitions that are overwritten.
create or replace function ops.in_partitions(doc jsonb, alias text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select case
        when doc ->> 'state' in ('all', 'rebuild') then 'true'
        when jsonb_array_length(doc -> 'partition') = 1
            then format('%s.%I = any(array(select %2$I from pg_temp.granary_partitions))', alias, doc -> 'partition' ->> 0)
        else format(
            '(%s) in (select %s from pg_temp.granary_partitions)', ops.column_list(ops.texts(doc -> 'partition'), alias || '.'),
            ops.column_list(ops.texts(doc -> 'partition'))
        )
    end
$$;

create or replace function ops.make_delta(doc jsonb, built text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format(
        'create table if not exists %s as'
        ' select cast(null as bigint) as version, cast(null as smallint) as sign, rows.* from %s as rows limit 0',
        ops.delta_of(doc ->> 'model'), built
    );
end
$$;

-- Write the difference between what a model has in its partitions and what it computed for them; keep the rows that
-- went (sign -1) and came (1) for those who read the model.
create or replace function ops.write_increment(doc jsonb, computed text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    target regclass := ops.relation_of(doc ->> 'model')::regclass;
    delta text := ops.delta_of(doc ->> 'model');
    columns text[] := array(select name from ops.columns_of(target));
    listed text := ops.column_list(columns);
    same_grain text := (
        select string_agg(format('new.%1$I = old.%1$I', name), ' and ') from jsonb_array_elements_text(doc -> 'grain') as name
    );
    version bigint;
    nestloop text := current_setting('enable_nestloop');
    deleted bigint;
    inserted bigint;
    unexpected boolean := false;
begin
    if doc ->> 'state' = 'none' then
        perform ops.remember_inputs(doc);
        return;
    end if;
    version := nextval(pg_get_serial_sequence('ops.model_versions', 'version'));
    perform ops.make_delta(doc, cast(target as text)); -- of a model that dbt has not built anew since it has one
    -- Without statistics of what was just computed, or with those of before, a loop over both looks cheap.
    execute format('analyze %s', computed);
    if jsonb_array_length(doc -> 'partition') = 1 then
        perform set_config('enable_nestloop', 'off', true);
    end if;
    execute format(
        'with gone as (delete from %s as old where %s and not exists'
        ' (select from %s as new where %s and (%s) is not distinct from (%s)) returning old.*)'
        ' insert into %s (version, sign, %s) select %s, -1, %8$s from gone',
        target, ops.in_partitions(doc, 'old'), computed, same_grain, ops.column_list(columns, 'new.'),
        ops.column_list(columns, 'old.'), delta, listed, version
    );
    get diagnostics deleted = row_count;
    -- A loop over a table that is as good as empty looks cheap, and would go through what the same statement has written
    -- into it, for each row. Where the table is not small, it goes by the index.
    perform set_config('enable_nestloop', case when pg_relation_size(target) < 8388608 then 'off' else nestloop end, true);
    execute format(
        'with come as (insert into %1$s (%2$s) select %2$s from %3$s as new'
        ' where not exists (select from %1$s as old where %4$s) returning *)'
        ' insert into %5$s (version, sign, %2$s) select %6$s, 1, %2$s from come',
        target, listed, computed, same_grain, delta, version
    );
    get diagnostics inserted = row_count;
    perform set_config('enable_nestloop', nestloop, true);
    if doc ->> 'asked' is not null and doc ->> 'state' = 'some' and deleted + inserted > 0 then
        -- Rows differ where nothing had changed: somebody changed the table, and its readers cannot go by what differs.
        execute format(
            'select exists (select from %s where version = %s and %I in (table pg_temp.granary_asked))',
            delta, version, doc -> 'partition' ->> 0
        ) into unexpected;
    end if;
    if deleted + inserted > 0 then
        insert into ops.model_versions (version, model, is_whole, rows_inserted, rows_deleted, invocation_id)
        overriding system value
        values (version, doc ->> 'model', unexpected, inserted, deleted, doc ->> 'invocation');
    end if;
    if deleted + inserted > (select reltuples from pg_class where oid = target) / 5 then
        execute format('analyze %s', target);
    end if;
    perform ops.remember_inputs(doc);
end
$$;

-- A model was built as a whole: those who read it start anew.
create or replace function ops.note_rebuild(doc jsonb, built text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    execute format('drop table if exists %s', ops.delta_of(doc ->> 'model'));
    perform ops.make_delta(doc, built);
    insert into ops.model_versions (model, is_whole, rows_inserted, rows_deleted, invocation_id)
    values (doc ->> 'model', true, 0, 0, doc ->> 'invocation');
    perform ops.remember_inputs(doc);
end
$$;

create or replace function ops.remember_inputs(doc jsonb) returns void
language sql set search_path = pg_catalog, pg_temp as $$
    insert into ops.model_states as mine (model, fingerprint, inputs)
    select
        doc ->> 'model', doc ->> 'fingerprint',
        coalesce((
            select jsonb_object_agg(input, coalesce((
                select max(version) from ops.model_versions where model = input
            ), 0))
            from jsonb_object_keys(case jsonb_typeof(doc -> 'inputs') when 'object' then doc -> 'inputs' else '{}' end) as input
        ), '{}')
    on conflict (model) do update set
        fingerprint = excluded.fingerprint, inputs = excluded.inputs,
        updated_at = clock_timestamp()
$$;

-- Empty what every reader has taken in; the latest version stays as long as it is the one that tests look at, without
-- the rows that went. After an erasure nothing stays: who has not taken it in starts anew.
create or replace function ops.prune_deltas(doc jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    names text[] := array(
        select format('%s.%s', node ->> 'schema', node ->> 'alias')
        from jsonb_array_elements(doc -> 'nodes') as node where jsonb_array_length(node -> 'partition') > 0
    );
    one text;
    delta text;
    latest bigint;
    seen bigint;
begin
    delete from ops.model_states where model <> all(names) and split_part(model, '.', 1) = any(ops.model_schemas(doc));
    foreach one in array names loop
        delta := ops.delta_of(one);
        continue when to_regclass(delta) is null;
        latest := (select max(version) from ops.model_versions where model = one);
        seen := coalesce((select min((inputs ->> one)::bigint) from ops.model_states where inputs ? one), latest);
        if (doc -> 'erasing')::boolean then
            update ops.model_states set fingerprint = '' where inputs ? one and (inputs ->> one)::bigint < latest;
            execute format('truncate %s', delta);
        else
            execute format('delete from %s where version <= %s and (version < %s or sign < 0)', delta, seen, latest);
        end if;
        delete from ops.model_versions where model = one and version < least(seen, latest);
    end loop;
end
$$;

create or replace function ops.set_watermark(model text, source text, load_id bigint, is_increment boolean) returns void
language sql set search_path = pg_catalog, pg_temp as $$
    insert into ops.model_watermarks as mine (model, source, previous_load_id, load_id, updated_at)
    values (model, source, 0, load_id, current_timestamp)
    on conflict (model, source) do update set
        previous_load_id = case when is_increment then mine.load_id else 0 end,
        load_id = excluded.load_id,
        updated_at = excluded.updated_at
$$;

-- The highest load of each source system that a model has seen. `sources`: system -> relations whose highest load_id counts;
-- of the ledger, that of the system's own loads and erasures. A full build has seen nothing before.
create or replace function ops.advance_watermark(model text, sources jsonb, is_increment boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    name text;
    relation text;
    highest bigint;
    found_load bigint;
begin
    for name in select jsonb_object_keys(sources) loop
        highest := 0;
        for relation in select jsonb_array_elements_text(sources -> name) loop
            if to_regclass(relation) = 'ops.load_audit'::regclass then
                found_load := greatest(
                    (select max(load_id) from ops.load_audit where source = name),
                    (select max(load_id) from ops.erased_rows where source = name)
                );
            else
                execute format('select max(load_id) from %s', relation) into found_load;
            end if;
            highest := greatest(highest, found_load);
        end loop;
        perform ops.set_watermark(model, name, highest, is_increment);
    end loop;
end
$$;

create or replace function ops.follow_watermark(model text, upstream text, is_increment boolean) returns void
language sql set search_path = pg_catalog, pg_temp as $$
    select ops.set_watermark(follow_watermark.model, marks.source, marks.load_id, is_increment)
    from ops.model_watermarks as marks
    where marks.model = upstream
$$;

-- A row that the source corrected without a later `updated_at` is not a new version, and dbt passes it over. What raw says
-- now replaces what the current version said, as if it had come so at first; so the current version is raw's row,
-- whenever a build looked, and in columns that are new as well.
create or replace function ops.follow_corrections(kept text, origin text, key text[], updated_at text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    columns text[] := array(
        select mine.name
        from ops.columns_of(kept::regclass) as mine
        inner join ops.columns_of(origin::regclass) as theirs on mine.name = theirs.name
    );
    compared text[] := array(select name from unnest(columns) as name where name not in ('load_id', 'load_row'));
begin
    execute format(
        'update %s as kept set %s from %s as said where %s and kept.dbt_valid_to is null'
        ' and (said.%I > kept.dbt_updated_at) is not true and (%s) is distinct from (%s)',
        kept, (select string_agg(format('%1$I = said.%1$I', name), ', ') from unnest(columns) as name), origin,
        (select string_agg(format('kept.%1$I = said.%1$I', name), ' and ') from unnest(key) as name), updated_at,
        ops.column_list(compared, 'kept.'), ops.column_list(compared, 'said.')
    );
end
$$;
