-- The warehouse's own tables and roles. Run at every start; every statement may be run again.
-- For psql, whose variables are DBNAME, the database, and EMBEDDED, whether the server is our own.

-- Nobody else's functions are to be found here: this runs as the owner.
set search_path = pg_catalog, pg_temp;
set client_min_messages = warning;

-- What each role may do is in docs/access.md. Two have no people: `eraser` takes households out (`granary forget`), and
-- `view_keeper` owns the functions by which a raw column takes a wider type. Neither is a superuser, nor is a member of them.
do $$
declare
    wanted text;
begin
    foreach wanted in array
        array['loader', 'transformer', 'analyst', 'analyst_pii', 'auditor', 'eraser', 'view_keeper']
    loop
        if not exists (select from pg_roles where rolname = wanted) then
            execute format('create role %I nologin', wanted);
        end if;
        if not pg_has_role(current_user, wanted, 'member') then
            execute format('grant %I to current_user', wanted);
        end if;
    end loop;
    if not pg_has_role('analyst_pii', 'analyst', 'member') then
        grant analyst to analyst_pii;
    end if;
    if not pg_has_role('view_keeper', 'transformer', 'member') then
        grant transformer to view_keeper;
    end if;
    if not pg_has_role('eraser', 'loader', 'member') then
        grant loader, transformer to eraser;
    end if;
end
$$;

-- On the embedded server a process logs in as the role that it works as, so that no code in a session can get more.
-- A login of an external server could be open to others: there only the login of PGUSER is used.
\if :EMBEDDED
do $$
begin
    if exists (select from pg_roles where rolname = 'loader' and not rolcanlogin) then
        alter role loader login;
        alter role transformer login;
        alter role analyst login;
        alter role analyst_pii login;
        alter role eraser login;
        grant pg_read_all_data to eraser; -- it also looks for households in tables of people's own
    end if;
    if exists (select from pg_roles where rolname = 'auditor' and not rolcanlogin) then
        alter role auditor login;
    end if;
end
$$;
\endif

revoke all on database :"DBNAME" from public;
grant create, connect, temporary on database :"DBNAME" to loader, transformer;
grant connect on database :"DBNAME" to analyst, auditor;
revoke create on schema public from public;
-- Without "$user": whoever may create schemas could put functions into one that is named like somebody's login.
alter database :"DBNAME" set search_path = public;

create schema if not exists ops;

-- Locks are rows here and not advisory locks, which anybody who is let in could take.
create table if not exists ops.locks (name text primary key);
comment on table ops.locks is 'What only one process does at a time: preparing, each source''s load, capture and erasures.';

create sequence if not exists ops.load_id;

-- A warehouse that was made before these columns were: its ledger and quarantine stay.
do $$
begin
    if to_regclass('ops.load_audit') is not null and not exists (
        select from pg_attribute where attrelid = to_regclass('ops.load_audit') and attname = 'version'
    ) then
        alter table ops.load_audit add column version text;
        alter table ops.load_audit drop constraint load_audit_status_check;
        alter table ops.load_audit add constraint load_audit_status_check
        check (status in ('loaded', 'unchanged', 'failed', 'unreadable'));
        alter table ops.quarantine add column identity text;
        alter table ops.quarantine add column line bigint;
        alter table ops.quarantine add column status text not null default 'open'
        check (status in ('open', 'replayed', 'dropped', 'superseded'));
        alter table ops.quarantine add column replayed_load_id bigint;
        update ops.quarantine set identity = quarantine_id::text;
        alter table ops.quarantine alter column identity set not null;
        alter table ops.schema_changes drop constraint schema_changes_change_check;
        alter table ops.schema_changes add constraint schema_changes_change_check
        check (change in ('added', 'ignored', 'missing', 'renamed', 'retyped', 'narrowed', 'widened'));
    end if;
    if to_regclass('ops.load_audit') is not null and not exists (
        select from pg_attribute where attrelid = to_regclass('ops.load_audit') and attname = 'rows_forgotten'
    ) then
        alter table ops.load_audit add column rows_forgotten bigint not null default 0;
        alter table ops.load_audit drop constraint nothing_silent;
        alter table ops.load_audit add constraint nothing_silent
        check (status <> 'loaded' or rows_read = rows_loaded + rows_quarantined + rows_forgotten);
    end if;
    if to_regclass('ops.load_audit') is not null and to_regclass('ops.files_left') is null then
        alter table ops.load_audit drop constraint load_audit_status_check;
        alter table ops.load_audit add constraint load_audit_status_check
        check (status in ('loaded', 'unchanged', 'failed', 'unreadable', 'duplicate', 'withdrawn'));
        alter table ops.quarantine drop constraint quarantine_status_check;
        alter table ops.quarantine add constraint quarantine_status_check
        check (status in ('open', 'replayed', 'dropped', 'superseded', 'failed'));
    end if;
end
$$;

create table if not exists ops.load_audit (
    load_id bigint primary key,
    run_id text not null,
    source text not null,
    table_name text not null,
    unit text not null,
    fingerprint text,
    version text,
    status text not null check (
        status in ('loaded', 'unchanged', 'failed', 'unreadable', 'duplicate', 'withdrawn')
    ),
    rows_read bigint not null,
    rows_loaded bigint not null,
    rows_quarantined bigint not null,
    rows_forgotten bigint not null default 0,
    rows_deleted bigint not null,
    bytes bigint not null,
    seconds double precision not null,
    watermark_before text,
    watermark_after text,
    superseded_by bigint,
    error text,
    started_at timestamptz not null,
    finished_at timestamptz not null default clock_timestamp(),
    constraint nothing_silent check (
        status <> 'loaded' or rows_read = rows_loaded + rows_quarantined + rows_forgotten
    )
);
comment on table ops.load_audit is 'One row per unit (file, page set, cursor window, micro-batch) that a loader landed, found unchanged, could not read, knew under another name, failed on or withdrew.';
create unique index if not exists load_audit_active on ops.load_audit (source, table_name, unit)
where status = 'loaded' and superseded_by is null and fingerprint is not null;
create index if not exists load_audit_by_table on ops.load_audit (source, table_name, load_id);

-- What each raw table is to hold. A warehouse that was made before this table was counts once what it has.
do $$
declare
    loaded record;
    held bigint;
begin
    if to_regclass('ops.raw_tables') is not null then
        return;
    end if;
    create table ops.raw_tables (
        source text not null,
        table_name text not null,
        row_count bigint not null,
        file oid,
        primary key (source, table_name)
    );
    comment on table ops.raw_tables is
    'How many rows each raw table is to hold, by what its loads did, and the file that holds them: a table that was dropped or emptied outside is noticed.';
    for loaded in
        select
            source, table_name, to_regclass(format('%I.%I', 'raw_' || source, table_name)) as relation,
            coalesce(sum(rows_loaded) filter (where status = 'loaded' and superseded_by is null), 0) as brought
        from ops.load_audit
        group by source, table_name
    loop
        held := 0;
        if loaded.relation is not null then
            execute format('select count(*) from %s', loaded.relation) into held;
        end if;
        insert into ops.raw_tables (source, table_name, row_count, file)
        values (
            loaded.source, loaded.table_name, case held when 0 then loaded.brought else held end,
            pg_relation_filenode(loaded.relation)
        );
    end loop;
end
$$;
-- A load that only looked does not count. A unit with a fingerprint (a file, an answer) is new when its content is; a
-- window past a cursor when the cursor moves, or a row changes behind it. What is read whole each time is confirmed by
-- every reading that finds rows. Before the first of these, the clock runs from the first attempt.
create or replace view ops.freshness as
with marked as (
    select
        source, table_name, load_id, status, fingerprint, rows_read, rows_quarantined, watermark_before,
        watermark_after, started_at, finished_at,
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
            else rows_read > 0
        end),
        min(started_at)
    ) as fresh_at
from marked
group by source, table_name;
comment on view ops.freshness is
'When each table''s source last had something new, or was read whole and confirmed; a load that found nothing does not count.';

create table if not exists ops.watermarks (
    source text not null,
    table_name text not null,
    value text not null,
    load_id bigint not null,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (source, table_name)
);
comment on table ops.watermarks is 'How far each cursor-incremental table has been read; moves only with the rows, in their transaction.';

create table if not exists ops.quarantine (
    quarantine_id bigint generated always as identity primary key,
    identity text not null,
    load_id bigint not null,
    source text not null,
    table_name text not null,
    unit text not null,
    row_number bigint not null,
    line bigint,
    column_name text not null,
    reason text not null,
    payload jsonb not null,
    contract_version integer not null,
    status text not null default 'open' check (status in ('open', 'replayed', 'dropped', 'superseded', 'failed')),
    replayed_load_id bigint,
    first_seen_at timestamptz not null default clock_timestamp(),
    last_seen_at timestamptz not null default clock_timestamp()
);
comment on table ops.quarantine is
'Rows that a contract refused and files that could not be read (row_number 0), as they were received, with the reason.';
create unique index if not exists quarantine_open on ops.quarantine (source, table_name, identity) where status = 'open';

create table if not exists ops.files_left (
    source text not null,
    table_name text not null,
    unit text not null,
    outcome text not null,
    reason text not null,
    load_id bigint not null,
    first_seen_at timestamptz not null default clock_timestamp(),
    last_seen_at timestamptz not null default clock_timestamp(),
    primary key (source, table_name, unit)
);
comment on table ops.files_left is
'What loads saw in a source''s place and did not take: files of no table (table_name is empty), and files that wait.';

create table if not exists ops.schema_changes (
    change_id bigint generated always as identity primary key,
    load_id bigint not null,
    source text not null,
    table_name text not null,
    column_name text not null,
    change text not null check (
        change in ('added', 'guessed', 'ignored', 'missing', 'renamed', 'retyped', 'narrowed', 'widened')
    ),
    detail text not null,
    seen_at timestamptz not null default clock_timestamp()
);
comment on table ops.schema_changes is
'Every difference between a contract and what a source delivered; one that lasts is kept once.';
do $$
begin
    if not exists (
        select from pg_constraint
        where conrelid = 'ops.schema_changes'::regclass and pg_get_constraintdef(oid) like '%guessed%'
    ) then
        alter table ops.schema_changes drop constraint schema_changes_change_check;
        alter table ops.schema_changes add constraint schema_changes_change_check
        check (change in ('added', 'guessed', 'ignored', 'missing', 'renamed', 'retyped', 'narrowed', 'widened'));
    end if;
end
$$;
create index if not exists schema_changes_by_table on ops.schema_changes (source, table_name, column_name, change_id);

-- Who is forgotten, by a keyed hash: nothing here names a household. See docs/decisions/0023.
create table if not exists ops.erasures (
    erasure_id bigint generated always as identity primary key,
    subject text not null unique,
    key_mark text not null,
    reason text,
    requested_at timestamptz not null default clock_timestamp(),
    erased_at timestamptz not null default clock_timestamp(),
    finished_at timestamptz
);
comment on table ops.erasures is
'Households that are forgotten, each as a keyed hash: loads leave their rows out. Finished once nothing of one is left.';

create table if not exists ops.erased_rows (
    erasure_id bigint not null references ops.erasures,
    load_id bigint not null,
    source text not null,
    table_name text not null,
    erased_load_id bigint not null,
    row_count bigint not null,
    primary key (load_id, erased_load_id)
);
comment on table ops.erased_rows is
'How many rows an erasure took from each load of a raw table; load_id is its own number, by which models notice it.';

create table if not exists ops.erased_totals (
    erasure_id bigint not null references ops.erasures,
    relation text not null,
    business_month date,
    row_count bigint not null,
    measures jsonb not null
);
comment on table ops.erased_totals is
'What erasures took from each relation: rows and sums; from the marts, as they were published, by business month.';

create table if not exists ops.model_watermarks (
    model text not null,
    source text not null,
    previous_load_id bigint not null default 0,
    load_id bigint not null,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (model, source)
);
create table if not exists ops.whole_builds (
    fingerprint text primary key,
    load_id bigint not null,
    publish_id bigint not null,
    built_at timestamptz not null default clock_timestamp()
);
comment on table ops.whole_builds is
'The last build of the whole project that succeeded: of which project, with which loads and as which publish.';

comment on table ops.model_watermarks is 'Which loads each incremental model holds; dbt moves it in the transaction that builds the model.';

-- A raw column may take a wider type while views stand on it: they are taken down and put up again as they were, with
-- owner, grants and comments. Only for raw tables and only for types that hold every value of the present one; a table
-- without rows takes any type.
-- Whatever the table has that is evaluated meanwhile (constraints, indexes, triggers), a loader has made: the column is
-- changed with no other rights than those of who calls. Only what becomes of the views is done by view_keeper.
create table if not exists ops.views_down (
    relation oid not null,
    place integer not null,
    name text not null,
    definition text not null,
    statements text [] not null,
    transaction_id xid8 not null,
    primary key (transaction_id, relation, place)
);
comment on table ops.views_down is 'Views that are down while a raw column takes a wider type; empty between transactions.';
grant select, insert, delete on ops.views_down to view_keeper;
grant usage on schema ops to view_keeper;

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

do $$
begin
    if exists (
        select from pg_proc
        where oid = 'ops.put_views_up(regclass)'::regprocedure and proowner <> 'view_keeper'::regrole
    ) then
        grant create on schema ops to view_keeper;
        alter function ops.take_views_down(regclass) owner to view_keeper;
        alter function ops.put_views_up(regclass) owner to view_keeper;
        revoke create on schema ops from view_keeper;
    end if;
end
$$;
revoke all on function ops.take_views_down(regclass), ops.put_views_up(regclass) from public;
revoke all on function ops.widen_column(regclass, name, text) from public;
grant execute on function
    ops.take_views_down(regclass), ops.put_views_up(regclass), ops.widen_column(regclass, name, text)
to loader;

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
revoke all on function ops.lock_holder(bigint), ops.take_lock(bigint, text, boolean) from public;
grant execute on function ops.lock_holder(bigint), ops.take_lock(bigint, text, boolean) to transformer;

create table if not exists ops.profiles (
    profile_id bigint generated always as identity primary key,
    relation text not null,
    load_id bigint,
    row_count bigint not null,
    profile jsonb not null,
    profiled_at timestamptz not null default clock_timestamp()
);
comment on table ops.profiles is 'What tables and files held when somebody profiled them: counts, percentiles, common values; nothing of personal columns.';
create index if not exists profiles_by_relation on ops.profiles (relation, profile_id);

grant usage on schema ops to loader, transformer, auditor;
grant select, insert, update on
    ops.load_audit, ops.watermarks, ops.quarantine, ops.schema_changes, ops.raw_tables, ops.files_left to loader;
grant select on ops.erasures, ops.freshness to loader;
grant select, insert, update on ops.locks to loader, transformer;
grant delete on ops.quarantine, ops.watermarks, ops.raw_tables to loader;
grant usage on all sequences in schema ops to loader;
grant create on schema ops to transformer;
grant select on all tables in schema ops to transformer;
grant insert, update, delete on ops.model_watermarks, ops.whole_builds to transformer;
grant insert on ops.profiles to transformer;
grant usage on schema ops to eraser;
grant select, insert, update on ops.erasures, ops.erased_rows, ops.erased_totals to eraser;
grant update on ops.profiles to eraser;
grant select on all tables in schema ops to eraser;
grant usage on all sequences in schema ops to eraser;

-- An auditor reads all records, also those that dbt keeps, but of refused rows not what was in them (`identity` is a
-- digest of it). Loaders had, in earlier versions, what is not theirs. Each statement changes what is different only:
-- others are at work meanwhile.
do $$
declare
    record record;
begin
    for record in
        select cast(tables.oid as regclass) as name, tables.oid, pg_get_userbyid(tables.relowner) as owner
        from pg_class as tables
        where tables.relnamespace = 'ops'::regnamespace and tables.relkind in ('r', 'v')
    loop
        if record.name <> 'ops.quarantine'::regclass and not has_table_privilege('auditor', record.oid, 'select') then
            execute format('grant select on %s to auditor', record.name);
        end if;
        if
            (
                record.owner = 'transformer'
                or record.name in ('ops.profiles'::regclass, 'ops.model_watermarks'::regclass, 'ops.whole_builds'::regclass)
            )
            and has_table_privilege('loader', record.oid, 'insert')
        then
            execute format('revoke all on %s from loader', record.name);
        end if;
    end loop;
end
$$;
grant select (
    quarantine_id, load_id, source, table_name, unit, row_number, line, column_name, reason, contract_version, status,
    replayed_load_id, first_seen_at, last_seen_at
) on ops.quarantine to auditor;

set role loader;
alter default privileges grant select on tables to transformer;
set role transformer;
alter default privileges in schema ops grant select on tables to auditor;
reset role;

-- What somebody has made as the owner among the loaders' tables, or among dbt's, is theirs: they work with their own
-- rights only, and could not change it. (dbt itself made some as the owner in earlier versions, after an error.)
do $$
declare
    stray record;
begin
    for stray in
        select n.nspname as name
        from pg_namespace as n
        where pg_get_userbyid(n.nspowner) = current_user and n.nspname not in ('ops', 'public') and n.nspname !~ '^pg_'
            and exists (select from pg_class as c where c.relnamespace = n.oid and pg_get_userbyid(c.relowner) = 'transformer')
    loop
        execute format('alter schema %I owner to transformer', stray.name);
    end loop;
    for stray in
        select cast(c.oid as regclass) as name, pg_get_userbyid(n.nspowner) as owner
        from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
        where pg_get_userbyid(c.relowner) = current_user and c.relkind in ('r', 'p', 'v', 'm')
            and pg_get_userbyid(n.nspowner) in ('loader', 'transformer')
    loop
        execute format('alter table %s owner to %I', stray.name, stray.owner);
    end loop;
end
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
        if (made.owner = 'loader' and made.name ~ '(^|_)(staging|intermediate|snapshots|seeds|build|marts|personal|ops)$'
                and made.name not like 'raw\_%')
            or (made.owner = 'transformer' and made.name like 'raw\_%')
        then
            raise exception '% may not have a schema named %', made.owner, made.name using errcode = 'insufficient_privilege';
        end if;
    end loop;
end
$$;
do $$
begin
    if not exists (select from pg_event_trigger where evtname = 'granary_schemas') then
        create event trigger granary_schemas on ddl_command_end
        when tag in ('CREATE SCHEMA', 'ALTER SCHEMA') execute function ops.guard_schemas();
    end if;
exception when insufficient_privilege then
    null;
end
$$;
