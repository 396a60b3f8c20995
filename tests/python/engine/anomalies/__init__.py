"""What is unusual among deliveries."""
