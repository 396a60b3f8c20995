"""How rows get in: a table's units through its contract into one transaction with the ledger."""
