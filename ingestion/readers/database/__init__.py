"""Databases: Postgres by binary COPY; MySQL, MariaDB, SQLite, SQL Server and Oracle through SQLAlchemy."""

from ingestion.readers.database.describe import describe
from ingestion.readers.database.reader import DatabaseReader
from ingestion.readers.database.shapes import ColumnShape, TableShape

__all__ = ["ColumnShape", "DatabaseReader", "TableShape", "describe"]
