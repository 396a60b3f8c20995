-- A file of archived raw rows is written again without somebody who is forgotten (docs/engine/archive.md): it `replaces`
-- the other one in the erasure's transaction. That one is erased: removed at once, by whoever looks next.

alter table ops.archives drop constraint if exists archives_state_check;
alter table ops.archives add constraint archives_state_check
check (state in ('writing', 'holds', 'released', 'rewriting', 'erased'));
alter table ops.archives add column if not exists replaces bigint;
comment on table ops.archives is
'A row per file with raw rows that are in no raw table: writing or rewriting until it holds them, released once they are back or replaced, erased when it goes.';
