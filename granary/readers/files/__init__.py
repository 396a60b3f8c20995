"""Files: their formats, where they lie, and how each is read as a stream."""

from granary.readers.files.formats import Avro, Csv, Excel, FixedWidth, Json, JsonLines, Orc, Parquet, Xml
from granary.readers.files.limits import Limits
from granary.readers.files.reader import FileReader

__all__ = [
    "Avro",
    "Csv",
    "Excel",
    "FileReader",
    "FixedWidth",
    "Json",
    "JsonLines",
    "Limits",
    "Orc",
    "Parquet",
    "Xml",
]
