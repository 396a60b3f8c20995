"""What runs in the shop."""
