-- Queues have no positions: which of their messages have landed is known by their ids (docs/engine/sources/queues.md).

create table if not exists ops.known_messages (
    source text not null,
    table_name text not null,
    message uuid not null,
    landed_at timestamptz not null default clock_timestamp(),
    primary key (source, table_name, message)
);
comment on table ops.known_messages is
'A row per message of a queue that has landed: a digest of its id, by which it is known when it is delivered again.';
