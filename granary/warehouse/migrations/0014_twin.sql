-- The columnar twin of the marts (docs/engine/twin.md): how far its copies are. What they hold is in their own catalogues.

create table if not exists ops.twin_state (
    copy text primary key,
    publish_id bigint not null,
    refused jsonb not null default '{}',
    seen_at timestamptz not null
);
comment on table ops.twin_state is
'Per copy of the columnar twin: the last publish, undo or redo that it has, and marts that it cannot hold, with the reason.';
