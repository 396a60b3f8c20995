"""Backups: base backups and the write-ahead log at a destination, restoring from there, and the proof that it works."""
