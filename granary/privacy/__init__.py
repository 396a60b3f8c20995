"""Data subjects: who is suppressed, where they are, how loads leave them out, and how they are erased."""
