"""Profiles for people: a table in the terminal, and a page beside the data documentation."""
