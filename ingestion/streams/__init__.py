"""Rows that arrive one by one: logs (Kafka, Kinesis) in micro-batches, and webhooks, into the same raw tables as files."""
