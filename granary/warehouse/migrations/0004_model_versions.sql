-- What incremental models have taken in, and what they handed on. dbt writes it in the transaction that builds the model.

create table if not exists ops.model_versions (
    version bigint generated always as identity primary key,
    model text not null,
    is_whole boolean not null,
    rows_inserted bigint not null,
    rows_deleted bigint not null,
    invocation_id text not null,
    built_at timestamptz not null default clock_timestamp()
);
create index if not exists model_versions_by_model on ops.model_versions (model, version);
comment on table ops.model_versions is
'Each build of an incremental model that changed rows. Which rows is in the table NAME__delta beside it, unless all were built anew (is_whole).';

create table if not exists ops.model_states (
    model text primary key,
    fingerprint text not null,
    inputs jsonb not null,
    updated_at timestamptz not null default clock_timestamp()
);
comment on table ops.model_states is
'Per incremental model: the code that built it and the version of each input that it has taken in.';
