"""Whether what came today is like what came before: volume, lateness and values of raw tables, day by day."""
