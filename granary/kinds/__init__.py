"""Kinds of sources: what each guarantees, and the examination of one source of any kind."""
