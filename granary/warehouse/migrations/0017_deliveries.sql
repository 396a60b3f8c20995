-- Marts that go out again (docs/engine/deliver.md): per delivery how far it is, its batches, and which rows its target has.

create table if not exists ops.deliveries (
    delivery text primary key,
    target text not null,
    token text not null default replace(cast(gen_random_uuid() as text), '-', ''),
    publish_id bigint not null,
    shows bigint not null,
    erasures text not null,
    columns jsonb not null,
    last_batch bigint not null default 0,
    delivered_at timestamptz,
    failed_at timestamptz,
    error text
);
comment on table ops.deliveries is
'A row per delivery: the publish that was taken last, the columns agreed with its target, and the error if the last one failed.';

create table if not exists ops.delivery_batches (
    delivery text not null references ops.deliveries on delete cascade,
    batch bigint not null,
    publish_id bigint not null,
    row_count bigint not null,
    inserted bigint not null,
    updated bigint not null,
    deleted bigint not null,
    refused bigint not null default 0,
    digest text not null,
    status text not null default 'waiting' check (status in ('waiting', 'sending', 'apart', 'sent', 'withdrawn')),
    position text,
    taken_at timestamptz not null default clock_timestamp(),
    started_at timestamptz,
    ended_at timestamptz,
    primary key (delivery, batch)
);
comment on table ops.delivery_batches is
'The ledger of deliveries: a row per batch, with rows and digest of what it holds, and how far it is.';

create table if not exists ops.delivered_rows (
    delivery text not null references ops.deliveries on delete cascade,
    key text not null,
    digest bigint,
    is_there boolean not null default false,
    batch bigint,
    op text check (op in ('insert', 'update', 'delete')),
    payload jsonb,
    reason text,
    refused_at timestamptz,
    primary key (delivery, key)
);
create index if not exists delivered_rows_batch on ops.delivered_rows (delivery, batch) where batch is not null;
create index if not exists delivered_rows_refused on ops.delivered_rows (delivery) where reason is not null;
comment on table ops.delivered_rows is
'A row per key that a target has, by a digest of its row; with the row itself while it waits to be sent, or was refused.';
