-- The warehouse's own tables and roles. Run at every start; every statement may be run again.
-- For psql, whose variable DBNAME is the database.

set client_min_messages = warning;
select pg_advisory_lock(hashtext('granary.prepare')) \g /dev/null

do $$
declare
    wanted text;
begin
    foreach wanted in array array['loader', 'transformer', 'analyst'] loop
        if not exists (select 1 from pg_roles where rolname = wanted) then
            execute format('create role %I nologin', wanted);
        end if;
        if not pg_has_role(current_user, wanted, 'member') then
            execute format('grant %I to current_user', wanted);
        end if;
    end loop;
end
$$;

revoke all on database :"DBNAME" from public;
grant create, connect, temporary on database :"DBNAME" to loader, transformer;
grant connect on database :"DBNAME" to analyst;
revoke create on schema public from public;

create schema if not exists ops;

create sequence if not exists ops.load_id;

create table if not exists ops.load_audit (
    load_id bigint primary key,
    run_id text not null,
    source text not null,
    table_name text not null,
    unit text not null,
    fingerprint text,
    status text not null check (status in ('loaded', 'unchanged', 'failed')),
    rows_read bigint not null,
    rows_loaded bigint not null,
    rows_quarantined bigint not null,
    rows_deleted bigint not null,
    bytes bigint not null,
    seconds double precision not null,
    watermark_before text,
    watermark_after text,
    superseded_by bigint,
    error text,
    started_at timestamptz not null,
    finished_at timestamptz not null default clock_timestamp(),
    constraint nothing_silent check (status <> 'loaded' or rows_read = rows_loaded + rows_quarantined)
);
comment on table ops.load_audit is 'One row per unit (file, page set, cursor window) that a loader landed, found unchanged or failed on.';
create unique index if not exists load_audit_active on ops.load_audit (source, table_name, unit)
where status = 'loaded' and superseded_by is null and fingerprint is not null;
create index if not exists load_audit_by_table on ops.load_audit (source, table_name, load_id);

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
    load_id bigint not null,
    source text not null,
    table_name text not null,
    unit text not null,
    row_number bigint not null,
    column_name text not null,
    reason text not null,
    payload jsonb not null,
    contract_version integer not null,
    first_seen_at timestamptz not null default clock_timestamp(),
    last_seen_at timestamptz not null default clock_timestamp()
);
comment on table ops.quarantine is 'Rows that a contract refused, as they were received, with the reason.';

create table if not exists ops.schema_changes (
    change_id bigint generated always as identity primary key,
    load_id bigint not null,
    source text not null,
    table_name text not null,
    column_name text not null,
    change text not null check (change in ('added', 'missing', 'retyped')),
    detail text not null,
    seen_at timestamptz not null default clock_timestamp()
);
comment on table ops.schema_changes is 'Every difference between a contract and what a source delivered.';

create table if not exists ops.model_watermarks (
    model text not null,
    source text not null,
    previous_load_id bigint not null default 0,
    load_id bigint not null,
    updated_at timestamptz not null default clock_timestamp(),
    primary key (model, source)
);
comment on table ops.model_watermarks is 'Which loads each incremental model holds; dbt moves it in the transaction that builds the model.';

grant usage on schema ops to loader, transformer;
grant select, insert, update on all tables in schema ops to loader;
grant delete on ops.quarantine, ops.watermarks to loader;
grant usage on all sequences in schema ops to loader;
grant create on schema ops to transformer;
grant select on all tables in schema ops to transformer;
grant insert, update, delete on ops.model_watermarks to transformer;

set role loader;
alter default privileges grant select on tables to transformer;
reset role;
