-- Every load that still counts has as many rows in raw as the ledger says, and raw has no row of any other load. Tables
-- that take a row by its key are left out: their loads share rows with others.
{{ granary.ledger_reconciles() }}
