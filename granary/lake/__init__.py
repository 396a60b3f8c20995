"""The lake: marts as Iceberg, Delta or Parquet, and raw rows that have moved out of Postgres (docs/engine/lake.md)."""
