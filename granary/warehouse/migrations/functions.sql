-- Views and functions of `ops`: applied whenever this file has changed, or a migration was applied.
-- Who owns them and who may call them says rights.sql.

-- When something new was loaded, and how new the newest data is (of a backfill: old). A load that only looked does not
-- count. A unit with a fingerprint (a file, an answer) is new when its content is; a window past a cursor when the cursor
-- moves, or a row changes behind it; what is read whole each time when it changed something (loads that are older than
-- this record of them: when they found rows). Before the first of these, the clock runs from the first attempt.
create or replace view ops.freshness as
with marked as (
    select
        source, table_name, load_id, status, fingerprint, rows_read, rows_quarantined, watermark_before,
        watermark_after, started_at, finished_at, is_new, data_at,
        lag(fingerprint) over (
            partition by source, table_name, unit, status = 'loaded' and fingerprint is not null order by load_id
        ) as fingerprint_before,
        lag(watermark_after) over (
            partition by source, table_name, watermark_after is null order by load_id
        ) as watermark_known
    from ops.load_audit
)
select
    source, table_name,
    coalesce(
        max(finished_at) filter (where case
            when status not in ('loaded', 'unchanged') then false
            when fingerprint is not null then status = 'loaded' and fingerprint is distinct from fingerprint_before
            when watermark_after is not null then status = 'loaded' and (
                watermark_after is distinct from watermark_known
                or (watermark_before is not null and rows_quarantined = 0)
            )
            else coalesce(is_new, rows_read > 0)
        end),
        min(started_at)
    ) as fresh_at,
    max(least(data_at, finished_at)) filter (where status in ('loaded', 'unchanged')) as data_at
from marked
group by source, table_name;
comment on view ops.freshness is
'When each table''s source last had something new, and how new its newest data is; a load that found nothing does not count.';

-- What took rows from a load that held them. A load that replaces another takes all; an erasure has its own load_id.
create or replace view ops.rows_gone as
select
    source, superseded_by as load_id, load_id as held_load_id, 'replaced' as reason, cast(null as bigint) as row_count
from ops.load_audit
where superseded_by is not null
union all
select source, load_id, erased_load_id, 'erased', row_count
from ops.erased_rows;
comment on view ops.rows_gone is 'Which loads lost rows, to which load or erasure: by load_id, models notice it.';

-- The loads from which an erasure has taken rows that a model of loads has not seen yet.
create or replace function ops.erased_loads(model text, source text) returns setof bigint
language sql stable set search_path = pg_catalog, pg_temp as $$
    select erased.erased_load_id
    from ops.erased_rows as erased
    inner join ops.model_watermarks as seen
        on erased.source = seen.source and erased.load_id > seen.previous_load_id and erased.load_id <= seen.load_id
    where seen.model = $1 and seen.source = $2
$$;

-- The highest load of a source that a model had seen before it was built last; without a model, that every model had, or
-- that the last whole build of the project had, which has passed all tests.
create or replace function ops.load_seen_before(source text, model text default null) returns bigint
language sql stable set search_path = pg_catalog, pg_temp as $$
    select greatest(
        0,
        (
            select min(seen.previous_load_id)
            from ops.model_watermarks as seen
            where seen.source = $1 and seen.model = coalesce($2, seen.model)
        ),
        (select cast(loads ->> $1 as bigint) from ops.whole_builds where $2 is null)
    )
$$;

-- A raw column may take a wider type while views stand on it: they are taken down and put up again as they were, with
-- owner, grants and comments. Only for raw tables and only for types that hold every value of the present one; a table
-- without rows takes any type.
-- Whatever the table has that is evaluated meanwhile (constraints, indexes, triggers), a loader has made: the column is
-- changed with no other rights than those of who calls. Only what becomes of the views is done by view_keeper.
create or replace function ops.take_views_down(relation regclass) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set standard_conforming_strings = on as $$
declare
    dependent record;
begin
    perform from pg_class as c
    inner join pg_namespace as n on n.oid = c.relnamespace
    where c.oid = relation and n.nspname like 'raw\_%' and c.relkind = 'r';
    if not found then
        raise exception '% is no raw table', relation;
    end if;
    for dependent in
        with recursive dependents as (
            select r.ev_class as oid, 1 as depth
            from pg_depend as d
            inner join pg_rewrite as r on r.oid = d.objid
            where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = relation
            union
            select r.ev_class, p.depth + 1
            from dependents as p
            inner join pg_depend as d on d.refobjid = p.oid and d.refclassid = 'pg_class'::regclass
            inner join pg_rewrite as r on r.oid = d.objid and r.ev_class <> p.oid
            where d.classid = 'pg_rewrite'::regclass
        ),

        ordered as (select oid, max(depth) as depth from dependents where oid <> relation group by oid)

        select
            c.oid::regclass::text as name, pg_get_userbyid(c.relowner) as owner, c.relkind,
            pg_get_viewdef(c.oid) as definition,
            row_number() over (order by o.depth, c.oid) as place,
            array(
                select made.statement
                from (
                    select 1 as step, format('alter view %s owner to %I', c.oid::regclass, pg_get_userbyid(c.relowner)) as statement
                    union all
                    select 2, format('comment on view %s is %L', c.oid::regclass, obj_description(c.oid, 'pg_class'))
                    union all
                    select 3, format('comment on column %s.%I is %L', c.oid::regclass, a.attname, col_description(c.oid, a.attnum))
                    from pg_attribute as a
                    where a.attrelid = c.oid and a.attnum > 0 and col_description(c.oid, a.attnum) is not null
                    union all
                    select 4, format(
                        'grant %s on %s to %s', g.privilege_type, c.oid::regclass,
                        case g.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end
                    )
                    from aclexplode(c.relacl) as g
                    union all
                    select 5, format(
                        'grant %s (%I) on %s to %s', g.privilege_type, a.attname, c.oid::regclass,
                        case g.grantee when 0 then 'public' else quote_ident(pg_get_userbyid(g.grantee)) end
                    )
                    from pg_attribute as a, aclexplode(a.attacl) as g
                    where a.attrelid = c.oid
                ) as made
                order by made.step
            ) as statements
        from ordered as o
        inner join pg_class as c on c.oid = o.oid
        order by o.depth desc, c.oid desc
    loop
        if dependent.relkind <> 'v' or not pg_has_role(current_user, dependent.owner, 'usage') then
            raise exception '% of % stands on it: drop that, load again and create it anew',
                dependent.name, dependent.owner;
        end if;
        insert into ops.views_down (relation, place, name, definition, statements, transaction_id)
        values (
            relation, dependent.place, dependent.name, dependent.definition, dependent.statements, pg_current_xact_id()
        );
        execute format('drop view %s', dependent.name);
    end loop;
end
$$;

create or replace function ops.put_views_up(relation regclass) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set standard_conforming_strings = on as $$
declare
    dependent ops.views_down;
    statement text;
begin
    for dependent in
        select * from ops.views_down as down
        where down.relation = put_views_up.relation and down.transaction_id = pg_current_xact_id()
        order by down.place
    loop
        begin
            execute format('create view %s as %s', dependent.name, dependent.definition);
        exception when others then
            raise exception 'the view % cannot stand on the new type (%): drop it first, dbt makes its own again',
                dependent.name, sqlerrm;
        end;
        foreach statement in array dependent.statements loop
            execute statement;
        end loop;
    end loop;
    delete from ops.views_down as down where down.relation = put_views_up.relation;
end
$$;

create or replace function ops.widen_column(relation regclass, column_name name, new_type text) returns void
language plpgsql security invoker set search_path = pg_catalog, pg_temp as $$
declare
    old_type text;
    holds_rows boolean;
begin
    select format_type(a.atttypid, a.atttypmod) into strict old_type
    from pg_attribute as a
    inner join pg_class as c on c.oid = a.attrelid
    inner join pg_namespace as n on n.oid = c.relnamespace
    where a.attrelid = relation and a.attname = column_name and n.nspname like 'raw\_%' and c.relkind = 'r';
    execute format('select exists (select from %s)', relation) into holds_rows;
    if holds_rows and not (
        (old_type = 'smallint' and new_type in ('integer', 'bigint'))
        or (old_type = 'integer' and new_type = 'bigint')
        or (old_type in ('smallint', 'integer', 'bigint') and new_type ~ '^numeric\(\d+,\d+\)$')
        or (old_type ~ '^numeric\(\d+,\d+\)$' and new_type ~ '^numeric\(\d+,\d+\)$')
        or (old_type = 'real' and new_type = 'double precision')
        or (old_type = 'date' and new_type = 'timestamp without time zone')
    ) then
        raise exception '% of % cannot be widened from % to %', column_name, relation, old_type, new_type;
    end if;
    perform ops.take_views_down(relation);
    execute format(
        'alter table %s alter column %I type %s%s', relation, column_name, new_type,
        case when not holds_rows then format(' using null::%s', new_type) else '' end
    );
    perform ops.put_views_up(relation);
end
$$;

-- What spans transactions (a publish) takes an advisory lock, which anybody could hold: so this waits for so long only,
-- and says who has it.
create or replace function ops.lock_holder(key bigint) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select format(
        'pid %s (%s, %s), since %s UTC', activity.pid, activity.usename, activity.application_name,
        to_char(coalesce(activity.xact_start, activity.backend_start) at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS')
    )
    from pg_locks as held
    inner join pg_stat_activity as activity on activity.pid = held.pid
    where held.locktype = 'advisory' and held.granted and held.pid <> pg_backend_pid()
        and held.database = (select oid from pg_database where datname = current_database())
        and (cast(held.classid as bigint) << 32) | cast(held.objid as bigint) = key
    limit 1
$$;
-- What one build of a schema's marts holds at a time (build_lock.py).
create or replace function ops.build_lock(schema_name text) returns bigint
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select cast(hashtext('granary.build.' || schema_name) as bigint)
$$;

create or replace function ops.take_lock(key bigint, purpose text, until_commit boolean) returns void
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '120s' as $$
begin
    if until_commit then
        perform pg_advisory_xact_lock(key);
    else
        perform pg_advisory_lock(key);
    end if;
exception when lock_not_available then
    raise exception 'lock timeout after %: % is held by %; wait for that session, or end it',
        current_setting('lock_timeout'), purpose, coalesce(ops.lock_holder(key), 'a session that has just ended')
        using errcode = 'lock_not_available';
end
$$;

-- What one of the warehouse's roles is called in this server; any other name stays as it is.
create or replace function ops.role_name(name text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select case
        when name = any(array['loader', 'transformer', 'analyst', 'analyst_pii', 'auditor', 'monitor', 'eraser', 'view_keeper'])
        then '{prefix}' || name else name end
$$;

-- The same for who is granted something, as SQL writes them.
create or replace function ops.grantee(name text) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    select case when ops.role_name(name) = name then name else quote_ident(ops.role_name(name)) end
$$;

-- Who makes a schema may put into it what runs as who writes there: a loader makes none under a name that dbt uses (with
-- or without something in front, as of a developer's), and nobody else one of raw tables. Only superusers make event
-- triggers: an external server may do without.
create or replace function ops.guard_schemas() returns event_trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    made record;
begin
    for made in
        select n.nspname as name, pg_get_userbyid(n.nspowner) as owner
        from pg_event_trigger_ddl_commands() as command
        inner join pg_namespace as n on n.oid = command.objid
        where command.classid = 'pg_namespace'::regclass
    loop
        if (made.owner = '{loader}' and made.name ~ '(^|_)(staging|intermediate|snapshots|seeds|build|marts|personal|partitions|archive|fresh|publish_history|as_of_\d+|twin(_personal)?(__new|__old)?|ops)$'
                and made.name not like 'raw\_%')
            or (made.owner = '{transformer}' and made.name like 'raw\_%')
        then
            raise exception '% may not have a schema named %', made.owner, made.name using errcode = 'insufficient_privilege';
        end if;
    end loop;
end
$$;
