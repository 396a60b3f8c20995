-- Raw rows that lie in files of a lake, and no longer in their raw table (docs/engine/archive.md). A load of the ledger
-- says which file has its rows; the file is known here before it is written, so that nobody has to look for stray ones.

create table if not exists ops.archives (
    archive_id bigint generated always as identity primary key,
    source text not null,
    table_name text not null,
    place text not null,
    path text not null,
    state text not null default 'writing' check (state in ('writing', 'holds', 'released')),
    row_count bigint not null default 0,
    byte_count bigint not null default 0,
    raw_byte_count bigint not null default 0,
    sha256 text,
    digest text,
    data_from date,
    data_until date,
    written_at timestamptz not null default clock_timestamp(),
    released_at timestamptz
);
comment on table ops.archives is
'A row per file with raw rows that are in no raw table: writing until they left it, released once they are back or replaced.';

alter table ops.load_audit add column if not exists archive_id bigint;
create index if not exists load_audit_archived on ops.load_audit (archive_id) where archive_id is not null;
