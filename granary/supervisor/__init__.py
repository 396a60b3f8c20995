"""`granary serve`: processes that are kept at work, and started again when one dies."""
