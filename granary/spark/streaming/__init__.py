"""A source's log read by Spark Structured Streaming, into the same tables and by the same ledger."""
