-- The records of audits and of publishing, which dbt writes. Up to now dbt made these tables itself: those stay as they are.

create table if not exists ops.model_audits (
    invocation_id text not null,
    test text not null,
    model text not null,
    scope text not null check (scope in ('all', 'new')),
    failures bigint not null,
    audited_at timestamptz not null default clock_timestamp(),
    primary key (invocation_id, test)
);
comment on table ops.model_audits is 'What the audit of each model proved, in the transaction that built it.';

create table if not exists ops.unpublished (
    unpublished_id bigint generated always as identity primary key,
    schema_name text not null,
    mart text not null,
    partition text,
    invocation_id text not null,
    built_at timestamptz not null default clock_timestamp()
);
comment on table ops.unpublished is
'What was built and is not published yet: a mart''s partition, or all of it (partition is null).';

create table if not exists ops.publish_holds (
    schema_name text not null,
    node text not null,
    reason text not null,
    invocation_id text not null,
    since timestamptz not null default clock_timestamp(),
    primary key (schema_name, node)
);
comment on table ops.publish_holds is 'Nodes that must succeed before anything is published.';

create table if not exists ops.builds (
    invocation_id text primary key,
    schema_name text not null,
    command text not null,
    finished_at timestamptz not null default clock_timestamp(),
    failures jsonb not null,
    warnings jsonb not null
);
comment on table ops.builds is 'How each run of dbt that builds or tests has ended.';

create table if not exists ops.publishes (
    publish_id bigint generated always as identity primary key,
    schema_name text not null,
    invocation_id text not null,
    started_at timestamptz not null,
    finished_at timestamptz not null default clock_timestamp(),
    marts text[] not null,
    rows_inserted bigint not null,
    rows_deleted bigint not null,
    last_date date,
    loads_seen jsonb not null
);
comment on table ops.publishes is 'Each publish.';

create table if not exists ops.published_months (
    publish_id bigint not null references ops.publishes,
    mart text not null,
    business_month date,
    rows_inserted bigint not null,
    rows_deleted bigint not null,
    previous_row_count bigint,
    row_count bigint not null,
    previous_measures jsonb,
    measures jsonb not null
);
comment on table ops.published_months is
'The restatement ledger: per publish, mart and business month, rows and sums before and after.';
create index if not exists published_months_by_mart on ops.published_months (mart, business_month, publish_id);
