"""The systems that this business reads: one module each, which names its tables, keys, cursors and contracts."""
