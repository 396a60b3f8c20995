"""Rows that arrive one by one, from logs (Kafka, Kinesis and others) and by webhook, into the same raw tables as files."""
