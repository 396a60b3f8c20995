"""Running dbt and reading its artifacts: manifest, results, lineage."""
