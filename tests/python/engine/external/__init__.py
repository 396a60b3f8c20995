"""A Postgres that somebody else runs: versions, rights, TLS, poolers and failovers, each with a real server."""
