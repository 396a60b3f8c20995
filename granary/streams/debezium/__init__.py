"""Changes of databases as Debezium writes them to a log, landed as our own captures land theirs."""
