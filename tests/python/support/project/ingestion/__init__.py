"""The systems of a small shop."""
