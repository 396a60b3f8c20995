"""What data look like: types and keys of a sample, profiles of tables, and drift from one profile to the next."""
