"""Change data capture from Postgres: a slot's changes, decoded in Arrow, into a change table and a current table."""
