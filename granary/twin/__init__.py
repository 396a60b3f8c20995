"""The columnar twin: the published marts once more, as Parquet under a DuckLake catalogue (docs/engine/twin.md)."""
