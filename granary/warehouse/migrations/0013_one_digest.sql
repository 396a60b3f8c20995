-- The ledger of publishes has a digest of each mart (ops.published_marts): backups need none of their own.

drop table if exists ops.mart_digests;
