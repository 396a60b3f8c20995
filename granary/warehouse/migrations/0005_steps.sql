-- How long each step of a run took: for what is left of the next one, for `granary doctor`, and so that a build that was
-- killed goes on where it was (`build` is what it was about, until it has succeeded).

create table if not exists ops.steps (
    run_id text not null,
    kind text not null,
    name text not null,
    relation text,
    is_full boolean not null,
    seconds double precision not null,
    row_count bigint,
    build text,
    finished_at timestamptz not null default clock_timestamp(),
    primary key (run_id, name)
);
comment on table ops.steps is
'The loads of tables and the models, seeds, snapshots and slow tests of each run, with their seconds.';
create index if not exists steps_by_name on ops.steps (name, finished_at);
