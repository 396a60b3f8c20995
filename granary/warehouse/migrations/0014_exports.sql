-- What lies in a lake: marts that were exported (docs/engine/lake.md). The lake itself says what a table holds; this is
-- by what an export finds what changed since the last one, and an erasure the copies that are outside of the warehouse.

create table if not exists ops.exports (
    place text not null,
    mart text not null,
    format text not null check (format in ('iceberg', 'delta', 'parquet')),
    role text not null,
    partition_by text,
    publish_id bigint not null,
    version text not null,
    parts jsonb not null,
    row_count bigint not null,
    exported_at timestamptz not null default clock_timestamp(),
    purged_at timestamptz not null default clock_timestamp(),
    primary key (place, mart, format)
);
comment on table ops.exports is
'A row per exported mart and place: the publish that lies there, with whose rights it was read, and rows and hash of each partition.';
