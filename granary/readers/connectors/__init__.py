"""Connectors of others, each a process in an environment of its own: Singer taps, and dlt sources beside them."""
