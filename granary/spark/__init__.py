"""The same models on Spark, where one machine is no longer enough."""
