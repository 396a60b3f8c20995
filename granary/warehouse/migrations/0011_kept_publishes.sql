-- What marts were after each publish: a digest for each mart, and which publishes can be shown again (history.sql).
-- dbt's role may own the ledger of publishes already: its own statements are its own.

alter table ops.publishes add column if not exists shows bigint;
alter table ops.publishes add column if not exists is_kept boolean not null default false;
comment on column ops.publishes.shows is 'Of an undo or a redo: the publish that it shows. Of a publish null: itself.';
comment on column ops.publishes.is_kept is 'Whether the marts can be shown as they were after this publish.';

create table if not exists ops.published_marts (
    publish_id bigint not null references ops.publishes,
    mart text not null,
    row_count bigint not null,
    digest numeric,
    plan jsonb not null,
    primary key (publish_id, mart)
);
comment on table ops.published_marts is
'Per publish and mart that it wrote: rows and digest after it, and what the mart was by then.';
