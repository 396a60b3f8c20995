"""Raw rows that are old, in files of a lake: written, verified, taken out of Postgres, and brought back."""
