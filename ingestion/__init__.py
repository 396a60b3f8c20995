"""Loaders: `sources/` says what to read, `readers/` and `load.py` say how."""
