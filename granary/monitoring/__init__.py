"""What the warehouse says about itself."""
