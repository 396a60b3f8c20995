"""What does not hold as it should, grouped by its cause, and told to whom it concerns."""
