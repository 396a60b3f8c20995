"""Readers: each knows one format or protocol, yields Arrow, and knows nothing of Postgres tables of ours."""
