"""Writes a new source: its module, its dbt YAML, and its staging models with their tests."""
