"""Benchmarks: each is a ratio to a reference that is measured in the same run, on the same machine."""
