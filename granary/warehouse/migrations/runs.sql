-- What a run of dbt calls when it starts and ends, the audits of what it builds, and its tests of raw tables. dbt describes
-- the project and the run as one JSON value and calls these as transformer; they have the rights of whoever calls them.
--
--     doc     {schema, personal, build, invocation, erasing, command, empty, despite, selected, tiers, masks, subjects,
--             nodes: [...], results: [...]}; without results it is an operation
--     node    {id, name, kind, parents, schema, alias, source, materialized, blocks, grain, partition, grants, meta,
--             columns: {name: its meta}}; `grain` and `partition` of a model that overwrites partitions
--     masks   {tier: mask or show}
--     result  {id, name, status, rows}

-- What holds publishing: ops.publish_holds. From its start a run holds it for every node and blocking test that it
-- selects, so that one that is killed half-way, or still builds, leaves nothing that another could publish; those that
-- succeed are released. A mart that would lose more rows than it may holds as well.

create or replace function ops.publish_lock(schema_name text) returns bigint
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select cast(hashtext('granary.publish.' || schema_name) as bigint)
$$;

-- Whether a node can hold it: what has rows, and tests that block.
create or replace function ops.can_hold(node jsonb) returns boolean
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select case node ->> 'kind' when 'test' then (node -> 'blocks')::boolean
        else node ->> 'kind' in ('model', 'seed', 'snapshot') and node ->> 'materialized' is distinct from 'ephemeral' end
$$;

create or replace function ops.hold_publishing(doc jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform ops.take_lock(ops.publish_lock(doc ->> 'schema'), 'publishing', true); -- waits for a publish that is going on
    insert into ops.publish_holds (schema_name, node, reason, invocation_id)
    select doc ->> 'schema', node ->> 'id', 'has not finished', doc ->> 'invocation'
    from jsonb_array_elements(doc -> 'nodes') as node
    where ops.can_hold(node) and doc -> 'selected' ? (node ->> 'id')
    on conflict (schema_name, node) do update
    set reason = excluded.reason, invocation_id = excluded.invocation_id, since = excluded.since;
end
$$;

-- What succeeded holds nothing any more, unless another run is at it; what failed, or was skipped since something else
-- failed, does. (`dbt retry` does not say before what it is going to build.)
create or replace function ops.settle_holds(doc jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    good constant text[] := array['success', 'pass', 'warn', 'no-op'];
begin
    delete from ops.publish_holds as held
    using jsonb_array_elements(doc -> 'results') as result
    where held.schema_name = doc ->> 'schema' and held.node = result ->> 'id' and result ->> 'status' = any(good)
        and not (doc -> 'empty')::boolean
        and (doc ->> 'command' = 'test' or held.invocation_id = doc ->> 'invocation' or held.reason <> 'has not finished');
    insert into ops.publish_holds as mine (schema_name, node, reason, invocation_id)
    select
        doc ->> 'schema', node ->> 'id', case result ->> 'status' when 'skipped' then 'was skipped' else 'failed' end,
        doc ->> 'invocation'
    from jsonb_array_elements(doc -> 'results') as result
    inner join jsonb_array_elements(doc -> 'nodes') as node on result ->> 'id' = node ->> 'id'
    where ops.can_hold(node) and result ->> 'status' <> all(good)
    on conflict (schema_name, node) do update
    set reason = excluded.reason, invocation_id = excluded.invocation_id, since = excluded.since
    where doc ->> 'command' = 'test' or mine.invocation_id = excluded.invocation_id;
end
$$;

-- What the project does not have any more (removed, renamed, disabled, only warning now) holds nothing, nor waits. What
-- holds under another project's name (the project was renamed) holds under the new one.
create or replace function ops.release_vanished(doc jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    present text[] := array(
        select node ->> 'id' from jsonb_array_elements(doc -> 'nodes') as node where ops.can_hold(node)
    );
begin
    update ops.publish_holds as held
    set node = known
    from unnest(present) as known
    where held.schema_name = doc ->> 'schema' and held.node <> all(present)
        and split_part(held.node, '.', 1) = split_part(known, '.', 1)
        and split_part(held.node, '.', 3) = split_part(known, '.', 3)
        and not exists (
            select from ops.publish_holds as other where other.schema_name = held.schema_name and other.node = known
        );
    delete from ops.publish_holds as held
    where held.schema_name = doc ->> 'schema' and held.node <> all(present) and held.node not like 'operation.%';
    perform ops.drop_history_of_vanished(doc);
    delete from ops.unpublished as waiting
    where waiting.schema_name = doc ->> 'schema'
        and waiting.mart not in (select mart ->> 'name' from ops.marts(doc) as mart);
end
$$;

create or replace function ops.failed_results(doc jsonb) returns setof jsonb
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select result
    from jsonb_path_query(doc, '$.results[*]') as result -- none of an operation
    where result ->> 'status' in ('error', 'fail', 'runtime error', 'partial success', 'skipped')
$$;

create or replace function ops.model_schemas(doc jsonb) returns text[]
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select array_agg(distinct node ->> 'schema')
    from jsonb_array_elements(doc -> 'nodes') as node
    where node ->> 'kind' = 'model'
$$;

-- Keep how the run has ended: by node what failed or was skipped, and what only warns; messages may quote rows.
create or replace function ops.record_build(doc jsonb) returns void
language sql set search_path = pg_catalog, pg_temp as $$
    with told as (
        select
            jsonb_build_object(
                'node', result -> 'name', 'status', result -> 'status', 'rows', result -> 'rows'
            ) as outcome,
            result ->> 'status' = 'warn' as warns,
            result in (select ops.failed_results(doc)) as failed,
            position
        from jsonb_array_elements(doc -> 'results') with ordinality as results (result, position)
    )
    insert into ops.builds (invocation_id, schema_name, command, failures, warnings)
    select
        doc ->> 'invocation', doc ->> 'schema', doc ->> 'command',
        coalesce(jsonb_agg(outcome order by position) filter (where failed), '[]'),
        coalesce(jsonb_agg(outcome order by position) filter (where warns), '[]')
    from told
    on conflict (invocation_id) do nothing
$$;

create or replace function ops.has_rows(schemas text[], name text) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    relation regclass;
    found_rows boolean;
begin
    for relation in
        select tables.oid
        from pg_class as tables
        inner join pg_namespace as spaces on tables.relnamespace = spaces.oid
        where tables.relkind in ('r', 'p') and tables.relname = name and spaces.nspname = any(schemas)
    loop
        execute format('select exists (select from %s)', relation) into found_rows;
        if found_rows then
            return true;
        end if;
    end loop;
    return false;
end
$$;

-- The nodes that wait for a source which never delivered, and have no rows themselves: they fail, or are skipped, since
-- there is nothing yet, and keep nobody from anything. Of a test, whether this is so of something that it reads.
create or replace function ops.without_data(doc jsonb) returns setof text
language sql stable set search_path = pg_catalog, pg_temp as $$
    with recursive nodes as materialized (
        select node ->> 'id' as id, node ->> 'kind' as kind, node from jsonb_array_elements(doc -> 'nodes') as node
    ), parents as materialized (
        select nodes.id, parent from nodes cross join lateral jsonb_array_elements_text(node -> 'parents') as parent
    ), unfed (id) as (
        select nodes.id
        from nodes
        where kind = 'source' and node ->> 'schema' like 'raw\_%' and not exists (
            select from ops.load_audit as loads
            where loads.source = node ->> 'source' and loads.table_name = node ->> 'alias' and loads.rows_loaded > 0
        )
        union
        select parents.id from parents inner join unfed on parents.parent = unfed.id
    ), without as materialized (
        select nodes.id, kind
        from nodes
        inner join unfed on nodes.id = unfed.id
        where kind = 'source' or (kind <> 'test' and not ops.has_rows(
            array[node ->> 'schema'] || case when ops.is_mart(doc, node)
                then array[doc ->> 'schema', doc ->> 'personal'] else '{}' end,
            node ->> 'alias'
        ))
    )
    select id from without where kind <> 'source'
    union
    select nodes.id
    from nodes
    inner join parents on nodes.id = parents.id
    inner join without on parents.parent = without.id
    where nodes.kind = 'test'
$$;

-- What a person is told of what holds publishing: which nodes, why, and the way out; null if nothing does. Nodes that
-- have never had data are marked so, and do not hold it.
create or replace function ops.holds(doc jsonb) returns text
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    waiting text[];
    names text[];
    told text[];
begin
    if not exists (select from ops.publish_holds as held where held.schema_name = doc ->> 'schema') then
        return null;
    end if;
    waiting := array(select ops.without_data(doc));
    update ops.publish_holds as held
    set reason = 'has never had data'
    where held.schema_name = doc ->> 'schema' and held.node = any(waiting);
    select array_agg(name order by place), array_agg(format('%s %s', name, reason) order by place)
    into names, told
    from (
        select
            held.reason, row_number() over (order by held.reason <> 'failed', held.since, held.node) as place,
            case when held.node like 'operation.%' then split_part(held.node, '.', 3) else (
                select known ->> 'name' from jsonb_array_elements(doc -> 'nodes') as known where known ->> 'id' = held.node
            ) end as name
        from ops.publish_holds as held
        where held.schema_name = doc ->> 'schema' and held.node <> all(waiting)
    ) as held
    where not doc -> 'despite' ? name; -- nor what the project does not have
    return case when names is not null then format(
        'nothing was published; %s stays as it was: %s%s. Fix it, and build and test it again; or, if it is right as it'
        ' is, let it through: dbt run-operation publish --args "{despite: [%s]}" (`granary guide runbooks/failed-run`)',
        doc ->> 'schema', array_to_string(told[:5], ', '),
        case when cardinality(names) > 5 then format(' and %s more', cardinality(names) - 5) end,
        case when cardinality(names) > 5 then 'NAME, ...' else array_to_string(names, ', ') end
    ) end;
end
$$;

-- Every tier of personal data and every data subject exists, and no personal column of a parent comes out of a child
-- under the same name without a tier of its own, or `not_personal` with the reason, nor a key of a data subject without its
-- `subject`, by which an erasure finds it. tests/python/project/pipeline/test_personal_data.py follows renames.
create or replace function ops.check_personal(doc jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    problem text;
begin
    with columns as materialized (
        select
            position, node ->> 'id' as id, node ->> 'name' as node, node -> 'parents' as parents, items.key as name,
            format('%s.%s', node ->> 'name', items.key) as place, items.value as meta,
            nullif(items.value ->> 'personal', '') as tier, nullif(items.value -> 'subject', 'null') as subject
        from jsonb_array_elements(doc -> 'nodes') with ordinality as nodes (node, position)
        cross join lateral jsonb_each(node -> 'columns') as items
    ), inherited as (
        select
            columns.*, parents.node as parent, parents.tier as their_tier, parents.subject as their_subject, nth as parent_place,
            array_remove(array_agg(parents.subject #>> '{}') over (
                partition by columns.id, columns.name order by nth
            ), null) as subjects
        from columns
        cross join lateral jsonb_array_elements_text(columns.parents) with ordinality as links (parent, nth)
        inner join columns as parents on links.parent = parents.id and columns.name = parents.name and parents.tier is not null
    ), problems (position, step, words) as (
        select
            position, 0, format(
                '%s: there is no tier of personal data %s; write one of %s (`granary guide access`), or add it to the var'
                ' personal_tiers.', place, tier, array_to_string(ops.texts(doc -> 'tiers'), ', ')
            )
        from columns
        where not doc -> 'tiers' ? tier
        union all
        select position, 1, format('%s: a column holds keys of one data subject, and not of %s.', place, subject)
        from columns
        where jsonb_typeof(subject) <> 'string'
        union all
        select
            position, 1, format(
                '%s: there is no data subject %s in dbt_project.yml (vars: data_subjects); the project has %s.',
                place, subject #>> '{}', coalesce(nullif(array_to_string(ops.texts(doc -> 'subjects'), ', '), ''), 'none')
            )
        from columns
        where jsonb_typeof(subject) = 'string' and not doc -> 'subjects' ? (subject #>> '{}')
        union all
        select position, 1 + parent_place, case
            when tier is null and coalesce(meta ->> 'not_personal', 'false') = 'false' then format(
                '%s comes from %s, where it is personal (%s): give it config.meta.personal, or config.meta.not_personal with'
                ' the reason (`granary guide access`).', place, parent, their_tier
            )
            when subjects[1] <> their_subject #>> '{}' then format(
                '%s comes from models where it is a key of %s and of %s: give each a column of its own.',
                place, subjects[1], their_subject #>> '{}'
            )
            when subject is distinct from their_subject then format(
                '%s comes from %s, where its subject is %s: give it the same config.meta.subject, so that an erasure finds it'
                ' (`granary guide runbooks/forget-somebody`).', place, parent, coalesce(their_subject #>> '{}', 'nobody')
            )
        end
        from inherited
    )
    select words into problem from problems where words is not null order by position, step, words limit 1;
    perform ops.refuse(problem);
end
$$;

-- A model that overwrites partitions has a key. What a model with `changed_by` reads, itself or through views, is named
-- there, and is of a kind whose changes can be followed; seeds are part of its code.
create or replace function ops.check_inputs(doc jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    problem text;
begin
    with recursive nodes as materialized (
        select node ->> 'id' as id, node from jsonb_array_elements(doc -> 'nodes') as node
    ), models as materialized (
        select id, node ->> 'name' as name, node #> '{meta,changed_by}' as declared
        from nodes where jsonb_typeof(node #> '{meta,changed_by}') = 'object'
    ), reads (id, input) as (
        select models.id, read.input
        from models
        inner join nodes on models.id = nodes.id
        cross join lateral jsonb_array_elements_text(nodes.node -> 'parents') as read (input)
        union
        select reads.id, read.input
        from reads
        inner join nodes on reads.input = nodes.id
        cross join lateral jsonb_array_elements_text(nodes.node -> 'parents') as read (input)
        where nodes.node ->> 'materialized' in ('view', 'ephemeral')
    ), inputs as materialized (
        select
            models.id, models.name, declared, node ->> 'name' as input,
            jsonb_array_length(node -> 'partition') > 0 as is_followed
        from models
        inner join reads on models.id = reads.id
        inner join nodes on reads.input = nodes.id
        where coalesce(node ->> 'materialized' not in ('view', 'ephemeral'), true) and node ->> 'kind' <> 'seed'
            and node ->> 'source' is distinct from 'ops'
    ), problems as (
        select name, format('reads %s and does not say what a change there means', input) as words
        from inputs where not declared ? input
        union all
        select name, format(
            'reads %s, whose changes cannot be followed: make it incremental (overwrite_partitions), or leave changed_by out', input
        )
        from inputs where not is_followed and declared ->> input is distinct from 'never'
        union all
        select models.name, format('names %s, which it does not read', keys.input)
        from models
        cross join lateral jsonb_object_keys(declared) as keys (input)
        where not exists (select from inputs where inputs.id = models.id and inputs.input = keys.input)
    )
    select words
    into problem
    from (
        select format('%s %s: correct its config.meta.changed_by (`granary guide increments`).', name, words) as words
        from problems
        union all
        select format(
            '%s overwrites partitions and has no unique key, by which rows are compared: declare a unique index in'
            ' meta.declared_indexes, or give it the config unique_key (`granary guide increments`).', node ->> 'name'
        )
        from nodes where node -> 'grain' = '[]'
    ) as found
    order by words
    limit 1;
    perform ops.refuse(problem);
end
$$;

-- A run starts, and stops here before anything is built if personal data would come out without its tier.
create or replace function ops.start_run(doc jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    perform ops.check_personal(doc);
    perform ops.check_inputs(doc);
    if doc ->> 'command' <> 'test' then
        perform ops.hold_publishing(doc);
    end if;
end
$$;

create or replace function ops.end_run(doc jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if jsonb_typeof(doc -> 'results') = 'array' then
        perform ops.settle_holds(doc);
        perform ops.record_build(doc);
    end if;
    perform ops.release_vanished(doc);
    perform ops.prune_deltas(doc);
end
$$;

-- Plan a publish, and keep others from one until it has ended, or the connection has. Returns {changing: the marts whose
-- columns are made ready before} if there is something to publish, {error: why nothing is}, and {warnings}. A run of
-- which everything succeeded and that may not publish fails all the same; one that failed already only says so.
create or replace function ops.prepare_publish(doc jsonb) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    words text;
    changing text[];
begin
    perform ops.take_lock(ops.publish_lock(doc ->> 'schema'), 'publishing', false);
    perform ops.forget_shrinking(doc);
    words := ops.holds(doc);
    if not exists (select from ops.unpublished as waiting where waiting.schema_name = doc ->> 'schema') then
        perform pg_advisory_unlock(ops.publish_lock(doc ->> 'schema'));
        return '{}';
    end if;
    if words is null then
        changing := ops.plan_publish(doc);
        words := ops.holds(doc);
    end if;
    if words is not null then
        perform pg_advisory_unlock(ops.publish_lock(doc ->> 'schema'));
        return case when (doc -> 'empty')::boolean or exists (select ops.failed_results(doc))
            then jsonb_build_object('warnings', jsonb_build_array(words)) else jsonb_build_object('error', words) end;
    end if;
    perform ops.forget_shrinking(doc); -- what was overlooked this once
    return jsonb_build_object(
        'changing', changing,
        'error', (
            select ops.refusal(plan) from pg_temp.publish_plans
            where plan ->> 'way' = 'refuse' order by plan ->> 'name' limit 1
        ),
        'warnings', coalesce((
            -- Tables that analysts may rely on and that no model fills any more: a person drops them.
            select jsonb_agg(format(
                '%s.%s is built by no model any more and stays as it was; drop it when nobody needs it.',
                doc ->> 'schema', relname
            ) order by relname)
            from pg_class
            where relkind in ('r', 'p', 'v') and relnamespace = to_regnamespace(quote_ident(doc ->> 'schema'))
                and cast(relname as text) not in (select mart ->> 'name' from ops.marts(doc) as mart)
        ), '[]') || ops.archived_changes(doc ->> 'schema')
    );
end
$$;

-- What dbt is to warn of, and the statements by which it publishes, or fails: a mart whose columns change has a transaction
-- of its own before, so that no lock outlives it.
create or replace function ops.publish_script(doc jsonb) returns jsonb
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    plan jsonb := ops.prepare_publish(doc);
begin
    return jsonb_build_object('warnings', coalesce(plan -> 'warnings', '[]'), 'script', case
        when plan ->> 'error' is not null then format('select ops.refuse(%L)', plan ->> 'error')
        when plan ? 'changing' then concat(
            (
                select string_agg(format('begin; select ops.make_columns_ready(%L); commit; ', mart), '' order by position)
                from jsonb_array_elements_text(plan -> 'changing') with ordinality as changing (mart, position)
            ),
            format(
                'begin; select ops.publish(); commit; begin; select ops.prune_history(%L); commit; select pg_advisory_unlock(%s)',
                doc ->> 'schema', ops.publish_lock(doc ->> 'schema')
            )
        )
        else ''
    end);
end
$$;

create or replace function ops.forget_shrinking(doc jsonb) returns void
language sql set search_path = pg_catalog, pg_temp as $$
    delete from ops.publish_holds as held
    where held.schema_name = doc ->> 'schema' and held.reason like 'would shrink from %'
$$;

-- What a build of a mart has written is to be published: the partitions that it overwrote by an `increment`
-- (increments.sql), or, if that is JSON's null, all of it. It is forgotten if the build rolls back.
create or replace function ops.record_unpublished(
    schema_name text, mart text, invocation text, increment jsonb
) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    -- Even if no row differs, grants, tiers and comments may: no partition.
    insert into ops.unpublished (schema_name, mart, partition, invocation_id)
    values ($1, $2, case when increment <> 'null' then '' end, $3);
    if increment <> 'null' then
        execute format(
            'insert into ops.unpublished (schema_name, mart, partition, invocation_id)'
            ' select distinct $1, $2, cast(%s as text), $3 from %s where version = ('
            'select max(version) from ops.model_versions where model = $4 and invocation_id = $3)',
            case jsonb_array_length(increment -> 'partition') when 1 then quote_ident(increment -> 'partition' ->> 0)
                else format('jsonb_build_array(%s)', ops.column_list(ops.texts(increment -> 'partition'))) end,
            ops.delta_of(increment ->> 'model')
        ) using schema_name, mart, invocation, increment ->> 'model';
    end if;
end
$$;

-- An audit: the blocking tests of a model, on the table that the transaction has built.
--
--     doc    {model, schema, scope, invocation, tests: [{name, query, of_load, fail_calc, error_if}]}; `schema`: where it is
--            published; `of_load`: the query on the rows of the load $1, of a model that keeps its rows' loads
--
-- Returns what a person is told of the first that fails, or null: then what they have counted is kept. The queries are
-- the project's, and find what they name as dbt's tests do. A model may forbid hashing for its own query only; and each
-- count, not the list of them, is for all processors.
create or replace function ops.audit(doc jsonb) returns text
language plpgsql set enable_hashagg = on set enable_parallel_append = off as $$
declare
    counts jsonb;
    failed record;
begin
    execute (
        select format('select jsonb_agg(counted order by place) from (%s) as counted', string_agg(format(
            'select %1$s as place, %2$s as failures, %2$s %3$s as is_failed from (%4$s) as dbt_internal_test',
            place, test ->> 'fail_calc', test ->> 'error_if', test ->> 'query'
        ), ' union all '))
        from jsonb_array_elements(doc -> 'tests') with ordinality as items (test, place)
    ) into counts;
    select test, coalesce(failures, 0) as failures
    into failed
    from jsonb_to_recordset(counts) as counted (place bigint, failures numeric, is_failed boolean)
    inner join jsonb_array_elements(doc -> 'tests') with ordinality as items (test, place) using (place)
    where is_failed
    order by place
    limit 1;
    if found then
        return format(
            'audit: %s: %s rows failed in %s.%s; nothing was published.%s', failed.test ->> 'name', failed.failures,
            doc ->> 'schema', split_part(doc ->> 'model', '.', 2), ops.loads_at_fault(doc ->> 'model', failed.test)
        );
    end if;
    insert into ops.model_audits (invocation_id, test, model, scope, failures)
    select doc ->> 'invocation', test ->> 'name', doc ->> 'model', doc ->> 'scope', coalesce(failures, 0)
    from jsonb_to_recordset(counts) as counted (place bigint, failures numeric)
    inner join jsonb_array_elements(doc -> 'tests') with ordinality as items (test, place) using (place);
    return null;
end
$$;

-- The newest loads whose rows fail a test by themselves, for people; nothing of a model that does not keep them.
create or replace function ops.loads_at_fault(model text, test jsonb) returns text
language plpgsql as $$
declare
    load record;
    is_failed boolean;
    found_loads text[] := '{}';
begin
    if test ->> 'of_load' is null then
        return '';
    end if;
    for load in execute format(
        'select load_id, unit from ops.load_audit where load_id in (select load_id from %s)'
        ' order by load_id desc limit 20', ops.relation_of(model)
    ) loop
        execute format(
            'select %s %s from (%s) as dbt_internal_test', test ->> 'fail_calc', test ->> 'error_if', test ->> 'of_load'
        ) into is_failed using load.load_id;
        if is_failed then
            found_loads := found_loads || format('%s (load %s)', load.unit, load.load_id);
        end if;
        exit when cardinality(found_loads) = 3;
    end loop;
    return coalesce(' They are of ' || nullif(array_to_string(found_loads, ', '), '') || '.', '');
end
$$;

-- Whether tests of a model may look at its latest publish only: unless that was all of it. All of a mart (`is_mart`) is
-- looked at until it is published, and not by each later run that leaves it as it is.
create or replace function ops.is_tested_by_partition(model text, schema_name text, is_mart boolean) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select exists (
        select
        from (
            select is_whole from ops.model_versions as versions where versions.model = $1 order by version desc limit 1
        ) as latest
        where not is_whole or ($3 and not exists (
            select from ops.unpublished as waiting
            where waiting.schema_name = $2 and waiting.mart = split_part($1, '.', 2) and waiting.partition is null
        ))
    )
$$;

-- The loads that still count and do not have as many rows in raw as the ledger says, and rows of raw that are of no such
-- load. Of a table that keeps a row once, however many loads bring it (`keyed`), the loads that have more rows than they
-- brought. `tables`: [{source, table, relation, model, keyed}]; with the watermark of a model, a table that is larger
-- than `counted_bytes`, or keyed, is counted where it is new to the model; of its earlier loads each must have a row.
create or replace function ops.ledger_differences(tables jsonb, counted_bytes bigint) returns table (
    source text, table_name text, load_id bigint, ledger_count bigint, raw_count bigint
)
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    one jsonb;
    keyed boolean;
    seen bigint;
begin
    for one in select jsonb_array_elements(tables) loop
        keyed := coalesce((one -> 'keyed')::boolean, false);
        seen := null;
        if keyed or pg_relation_size(to_regclass(one ->> 'relation')) > counted_bytes then
            select greatest(marks.previous_load_id, ops.load_seen_before(marks.source)) into seen
            from ops.model_watermarks as marks
            where marks.model = one ->> 'model' and marks.source = one ->> 'source';
        end if;
        return query execute format(
            'select %1$L, %2$L, load_id, ledger.row_count, raw_loads.row_count'
            ' from (select load_id, rows_loaded as row_count from ops.load_audit where source = %1$L and table_name = %2$L'
            ' and status = ''loaded''%3$s) as ledger'
            ' full outer join (select _load_id as load_id, count(*) as row_count from %4$s%5$s group by _load_id) as raw_loads'
            ' using (load_id) where %6$s',
            one ->> 'source', one ->> 'table',
            case when not keyed then ' and superseded_by is null and archive_id is null and rows_loaded > 0' || coalesce(' and load_id > ' || seen, '') end,
            one ->> 'relation', ' where _load_id > ' || seen,
            case when keyed then 'coalesce(raw_loads.row_count > ledger.row_count, ledger.row_count is null)'
                else 'ledger.row_count is distinct from raw_loads.row_count' end
        );
        if not keyed and seen is not null then
            return query select one ->> 'source', one ->> 'table', lost.load_id, lost.row_count, cast(0 as bigint)
                from ops.loads_without_rows(one, seen) as lost;
        end if;
    end loop;
end
$$;

-- Each load up to one is looked up by the block range index, which the planner, who thinks that a load's rows lie
-- anywhere, would not do.
create or replace function ops.loads_without_rows(one jsonb, seen bigint) returns table (load_id bigint, row_count bigint)
language plpgsql set search_path = pg_catalog, pg_temp set enable_seqscan = off as $$
begin
    return query execute format(
        'select loads.load_id, loads.rows_loaded from ops.load_audit as loads'
        ' left join lateral (select 1 as one from %s where _load_id = loads.load_id limit 1) as present on true'
        ' where present.one is null and loads.source = %L and loads.table_name = %L and loads.status = ''loaded'''
        ' and loads.superseded_by is null and loads.archive_id is null and loads.rows_loaded > 0 and loads.load_id <= %s'
        ' order by loads.load_id',
        one ->> 'relation', one ->> 'source', one ->> 'table', seen
    );
end
$$;

-- The valid indexes of a relation, from the catalogue.
create or replace function ops.indexes_of(relation regclass) returns table (
    name text, method text, is_unique boolean, is_nullable boolean, column_names text
)
language sql stable set search_path = pg_catalog, pg_temp as $$
    select
        cast(names.relname as text), cast(methods.amname as text), indexes.indisunique, bool_or(not columns.attnotnull),
        string_agg(columns.attname, ', ' order by parts.position)
    from pg_index as indexes
    inner join pg_class as names on indexes.indexrelid = names.oid
    inner join pg_am as methods on names.relam = methods.oid
    cross join lateral unnest(indexes.indkey) with ordinality as parts (number, position)
    inner join pg_attribute as columns on indexes.indrelid = columns.attrelid and parts.number = columns.attnum
    where indexes.indrelid = relation and indexes.indisvalid and indexes.indpred is null
    group by names.relname, methods.amname, indexes.indisunique
$$;

-- The declared indexes that the catalogue does not have, or not valid.
create or replace function ops.missing_indexes(relation regclass, model text, declared jsonb) returns setof text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select one ->> 'name'
    from jsonb_array_elements(ops.declared_indexes(model, declared)) as one
    where not exists (
        select from ops.indexes_of(relation) as found
        where found.name = one ->> 'name' and found.method = one ->> 'type'
            and found.is_unique = (one -> 'unique')::boolean
            and found.column_names = array_to_string(ops.texts(one -> 'columns'), ', ')
    )
$$;
drop function if exists ops.proved(text, text, text);
