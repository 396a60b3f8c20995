"""From a bare machine to a working environment; the standard library only."""
