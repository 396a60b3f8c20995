"""Dagster: what runs when, and the one lineage from the source file to the metric."""
