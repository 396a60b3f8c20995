"""Capture from MySQL and MariaDB: the row changes of the binary log."""
