"""Change data capture: a database's log, decoded in Arrow, into a change table and a current table."""
