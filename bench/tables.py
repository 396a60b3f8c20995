"""What is loaded: the sample retailer's receipt lines and promotions, as Parquet and as one CSV file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from granary.readers.files import FileReader
from granary.sources.discovery import SOURCES
from granary.sources.spec import Source

if TYPE_CHECKING:
    from pathlib import Path

    from granary.warehouse.settings import Settings


def parquet(settings: Settings, table: str) -> list[Path]:
    """Return the files of a table in the landing zone."""
    return sorted((settings.home / "demo" / "landing" / "pos" / table).glob("*.parquet"))


def csv(settings: Settings, table: str) -> Path:
    """Return a table's rows as one CSV file with a header, written if it is not there."""
    path = settings.home / "csv" / f"{table}.csv"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o755)
        schema = SOURCES["pos"].table(table).schema
        with pc.CSVWriter(path, schema) as writer:
            for file in parquet(settings, table):
                writer.write_table(pa.table(pq.read_table(file).cast(schema)))
        path.chmod(0o644)
    return path


def sources(settings: Settings) -> dict[str, Source]:
    """Return the sources with one more, `csv`: the tables of `pos` out of CSV files."""
    pos = SOURCES["pos"]
    return {
        **SOURCES,
        "csv": Source(
            name="csv",
            description="The receipt lines as CSV.",
            owner=pos.owner,
            kind="csv",
            settings=(),
            open_reader=lambda _: FileReader(str(settings.home / "csv")),
            tables=tuple(replace(table, location=f"{table.name}.csv", partition=None) for table in pos.tables),
        ),
    }
