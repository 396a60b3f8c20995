"""The Postgres that everything lands in: server, settings, connections, roles and the transactional writer."""
