"""Rows that arrive one by one, from logs, queues and by webhook, into the same raw tables as files."""
