"""What contracts refused: listed, shown, replayed and dropped."""
