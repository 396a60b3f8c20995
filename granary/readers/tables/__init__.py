"""Tables of a lake as sources: Iceberg and Delta, read by their data files."""

from granary.readers.tables.reader import DeltaReader, IcebergReader

__all__ = ["DeltaReader", "IcebergReader"]
