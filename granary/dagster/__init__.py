"""Factories of Dagster's assets, checks and jobs, and runs of them in this process."""
