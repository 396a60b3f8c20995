-- Rows that a delivery's target refused are entries of the quarantine (docs/engine/deliver.md): they stay where they are
-- and have a number of the quarantine's own, by which a person shows, replays or drops them.

alter table ops.delivered_rows add column if not exists quarantine_id bigint;
alter table ops.delivered_rows add column if not exists first_refused_at timestamptz;
alter table ops.delivered_rows add column if not exists is_dropped boolean not null default false;
update ops.delivered_rows set
    quarantine_id = nextval(pg_get_serial_sequence('ops.quarantine', 'quarantine_id')),
    first_refused_at = refused_at
where reason is not null and quarantine_id is null;
create unique index if not exists delivered_rows_quarantine on ops.delivered_rows (quarantine_id)
where quarantine_id is not null;
