"""What JSON APIs have in common: a declaration, one careful HTTP client, pages, and rows as Arrow."""
