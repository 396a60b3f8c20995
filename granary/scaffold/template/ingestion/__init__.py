"""What is loaded: one module per source."""
