"""The project's models on Spark: a small cluster, the raw tables as Parquet, the dialect, and a comparison."""
