"""Peak memory of a load against its rows: `python -m bench memory [ROWS...]`, by default 1, 10 and 100 million.

The rows are narrow, in one file of each format for each number of rows; each load is a process of its own. 100 million
rows take 8 GB of disk, and some minutes for each format.
"""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from bench.peak import peak_mb
from granary.cli import output
from granary.load import api as load
from granary.readers.files import FileReader
from granary.sources.spec import Column, Source, Table
from granary.warehouse import server
from granary.warehouse.connection import connect, execute
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = (1_000_000, 10_000_000, 100_000_000)
GROUP = 1_000_000
"""Rows that are made at a time, and of a row group of Parquet."""
MIB = 1 << 20

COLUMNS = (
    Column("reading_id", pa.int64(), "Reading.", nullable=False, minimum=0),
    Column("sensor_id", pa.int32(), "Sensor."),
    Column("value", pa.float64(), "Value.", minimum=0),
)


def main() -> None:
    """Measure; as the child (`load FOLDER FORMAT`) load one file."""
    settings = Settings.load()
    if sys.argv[1:2] == ["load"]:
        load.SOURCES = {"sensors": _source(Path(sys.argv[2]), sys.argv[3])}
        began = time.perf_counter()
        result = load.load_table(settings, "sensors", "readings")
        print(result.rows_loaded, time.perf_counter() - began, peak_mb())
        return
    server.up(settings)
    folder = settings.home / "memory"
    folder.mkdir()
    numbers = [int(word) for word in sys.argv[1:]] or list(ROWS)
    rows = []
    for kind, number in product(("parquet", "csv"), numbers):
        rows.append(_measured(settings, folder, kind, number))
        print(*rows[-1], file=sys.stderr, flush=True)  # the largest take minutes
    output.table("Peak memory of a load", ("format", "rows", "file, MB", "load, s", "peak MB"), rows)


def _measured(settings: Settings, folder: Path, kind: str, rows: int) -> tuple[object, ...]:
    """Load a file of so many rows into a new table, and return a row of the result."""
    path = folder / f"readings.{kind}"
    _write(path, rows)
    with connect(settings) as connection:
        execute(connection, "drop table if exists raw_sensors.readings")
        execute(connection, "truncate ops.load_audit, ops.raw_tables")
    command = [sys.executable, "-m", "bench.memory", "load", str(folder), kind]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    loaded, seconds, most = done.stdout.split()
    if int(loaded) != rows:
        raise SystemExit(f"{loaded} of {rows} rows were loaded")
    size = path.stat().st_size
    path.unlink()
    return kind, rows, size // MIB, float(seconds), int(most)


def _write(path: Path, rows: int) -> None:
    """Write a file, a group of rows at a time."""
    schema = pa.schema([(column.name, column.type) for column in COLUMNS])
    if path.suffix == ".csv":
        with pcsv.CSVWriter(path, schema) as text:
            for group in _groups(schema, rows):
                text.write_batch(group)
        return
    with pq.ParquetWriter(path, schema) as columns:
        for group in _groups(schema, rows):
            columns.write_batch(group)


def _groups(schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
    for first in range(0, rows, GROUP):
        keys = pa.arange(first, min(first + GROUP, rows))
        sensors = pc.bit_wise_and(keys, 4095).cast(pa.int32())
        yield pa.RecordBatch.from_arrays([keys, sensors, pc.divide(sensors.cast(pa.float64()), 8)], schema=schema)


def _source(folder: Path, kind: str) -> Source:
    table = Table("readings", "Readings.", f"readings.{kind}", COLUMNS, "replace_unit", timedelta(days=1))
    return Source("sensors", "Sensors.", "bench", kind, (), lambda _: FileReader(str(folder)), (table,))


if __name__ == "__main__":
    main()
