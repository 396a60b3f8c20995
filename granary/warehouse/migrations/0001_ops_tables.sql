-- The tables of `ops`. A warehouse that was made before its migrations were numbered has most of them, in an earlier
-- shape: every statement here takes them as they are and brings them to what the last ones say.

create schema if not exists ops;

create table if not exists ops.migrations (
    number integer primary key,
    name text not null,
    sha256 text not null,
    applied_at timestamptz not null default clock_timestamp(),
    engine text not null
);
comment on table ops.migrations is
'Which migrations these tables have had, and from which version of the engine; number 0 is functions.sql, which is applied again when it changes.';

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

-- Who is forgotten, by a keyed hash: nothing here names anybody. See docs/engine/decisions/0023.
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
'Who is forgotten, each as a keyed hash: loads leave their rows out. Finished once nothing of one is left.';

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
