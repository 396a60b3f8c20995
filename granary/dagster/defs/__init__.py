"""The definitions, one module per concern."""
