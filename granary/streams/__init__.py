"""Rows that arrive one by one, from logs (Kafka and others) and by webhook, into the same raw tables as files."""
