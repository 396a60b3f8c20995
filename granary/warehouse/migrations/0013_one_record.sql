-- The ledger of publishes has a digest of each mart (ops.published_marts): backups need none of their own.

drop table if exists ops.mart_digests;

comment on table ops.files_not_loaded is
'What loads saw in a source''s place and did not take: files of no table (table_name is empty), files that wait, and copies.';
