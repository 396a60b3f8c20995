-- What was backed up and proved to be restorable. The destination itself says which backups there are; this is the record
-- by which people are told that one is missing. See granary/backup/.

create table if not exists ops.backups (
    backup_id bigint generated always as identity primary key,
    kind text not null check (kind in ('full', 'incremental', 'logical', 'drill')),
    name text not null,
    place text not null,
    started_at timestamptz not null,
    finished_at timestamptz not null default clock_timestamp(),
    succeeded boolean not null,
    byte_count bigint,
    detail jsonb not null default '{}'
);
comment on table ops.backups is
'Each backup that was made or failed, and each drill: whether the newest backup could be restored, and what was compared.';
create index if not exists backups_by_place on ops.backups (place, kind, finished_at);

create table if not exists ops.backup_state (
    place text primary key,
    since timestamptz not null default clock_timestamp(),
    every_seconds double precision not null,
    drill_seconds double precision not null,
    log_at timestamptz,
    problem text not null default '',
    seen_at timestamptz not null default clock_timestamp()
);
comment on table ops.backup_state is
'The destination that backup.yml names: how old a backup and a drill may be there, and up to when the log is stored.';

-- What each mart held, as of a publish: a drill compares with it what it has restored.
create table if not exists ops.mart_digests (
    publish_id bigint not null,
    schema_name text not null,
    mart text not null,
    row_count bigint not null,
    digest numeric not null,
    taken_at timestamptz not null default clock_timestamp(),
    primary key (schema_name, mart)
);
comment on table ops.mart_digests is
'Rows and digest of each published mart, with the publish that they are of: as of the last backup.';
