"""Random histories of the whole project: increments against full refreshes."""
