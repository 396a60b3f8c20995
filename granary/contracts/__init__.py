"""What each mart promises those who read it, as data contracts in the Open Data Contract Standard (ODCS) 3."""
