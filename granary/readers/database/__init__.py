"""Databases: Postgres by binary COPY; MySQL, MariaDB, SQLite, SQL Server and Oracle through SQLAlchemy."""

from granary.readers.database.describe import describe
from granary.readers.database.reader import DatabaseReader
from granary.readers.database.rights import Withheld, withheld
from granary.readers.database.shapes import ColumnShape, TableShape

__all__ = ["ColumnShape", "DatabaseReader", "TableShape", "Withheld", "describe", "withheld"]
