"""Rows that arrive one by one, from logs (Kafka, Kinesis) and by webhook, into the same raw tables as files."""
