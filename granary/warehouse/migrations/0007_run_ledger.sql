-- The run ledger: what ran, who started it, how it ended and what it took. Taken after the fact; what loads and publishes
-- keep themselves is not kept again: ops.activities (functions.sql) joins them.

create table if not exists ops.runs (
    run_id text primary key,
    kind text not null check (kind in ('job', 'dbt', 'load', 'stream', 'capture', 'publish')),
    name text not null,
    started_at timestamptz not null,
    finished_at timestamptz,
    status text not null check (status in ('running', 'succeeded', 'failed', 'canceled')),
    cause text,
    started_by text,
    parent_run_id text,
    cpu_seconds double precision,
    peak_memory_bytes bigint,
    row_count bigint,
    byte_count bigint,
    seen_at timestamptz not null default clock_timestamp()
);
comment on table ops.runs is
'Each run of Dagster, invocation of dbt, load or publish from the command line, and process of a stream or a capture.';
create index if not exists runs_by_time on ops.runs (started_at);

alter table ops.steps add column if not exists started_at timestamptz;
alter table ops.steps add column if not exists status text not null default 'succeeded'
check (status in ('succeeded', 'warned', 'failed', 'skipped', 'canceled'));
alter table ops.steps add column if not exists cause text;
alter table ops.steps add column if not exists byte_count bigint;
alter table ops.steps add column if not exists cpu_seconds double precision;
alter table ops.steps add column if not exists peak_memory_bytes bigint;
update ops.steps set started_at = finished_at - make_interval(secs => seconds) where started_at is null;
comment on table ops.steps is
'The loads of tables, the models, seeds, snapshots and tests, and the publish of each run, with what they took.';
create index if not exists steps_by_time on ops.steps (finished_at);

-- Whether a load changed what was there (null: older than this column), and how new the newest of its rows is.
alter table ops.load_audit add column if not exists is_new boolean;
alter table ops.load_audit add column if not exists data_at timestamptz;
create index if not exists load_audit_by_time on ops.load_audit (finished_at);

create table if not exists ops.lags (
    source text not null,
    kind text not null check (kind in ('stream', 'slot')),
    part text not null,
    message_count bigint,
    byte_count bigint,
    seconds double precision,
    seen_at timestamptz not null default clock_timestamp(),
    primary key (source, kind, part)
);
comment on table ops.lags is
'How far each partition of a stream, and each slot of a capture, was behind when its process last said so.';

create table if not exists ops.table_sizes (
    measured_on date not null,
    relation text not null,
    byte_count bigint not null,
    row_count bigint,
    primary key (measured_on, relation)
);
comment on table ops.table_sizes is 'What each table took of the disk on each day, its indexes included; rows are the server''s estimate.';

create table if not exists ops.objectives (
    relation text primary key,
    source text,
    owner text not null,
    fresh_seconds double precision,
    seen_at timestamptz not null default clock_timestamp()
);
comment on table ops.objectives is
'Who owns each table, by contracts and dbt''s groups, and for how long a source''s table may have nothing new.';
