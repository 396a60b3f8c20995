"""Capture from Postgres: the changes of a logical replication slot."""
