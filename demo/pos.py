"""The tills: one Parquet file of transactions per business date, one of promotions per week."""

from __future__ import annotations

from bisect import bisect_left
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from demo.clock import OPENING, ends_at
from demo.copies import INSTANT, WEEKS, YEAR
from demo.files import put
from demo.progress import Step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, datetime
    from pathlib import Path

    from demo.data import Data

_CODES = ("display_location", "mailer_location")


def transactions_by_day(data: Data) -> Iterator[tuple[date, pa.Table]]:
    """Yield each business date of the sample with sales, and its lines; the source is in order of time."""
    day, held = OPENING + timedelta(days=1), list[pa.RecordBatch]()
    for batch in data.batches("transactions"):
        instants = batch.column(INSTANT).cast(pa.timestamp("us"))
        lines = batch.set_column(batch.schema.get_field_index(INSTANT), INSTANT, instants).replace_schema_metadata()
        start = 0
        while (end := _first_at(instants, ends_at(day))) < lines.num_rows:
            if end > start:
                held.append(lines.slice(start, end - start))
            if held:
                yield day, pa.Table.from_batches(held)
            day, held, start = day + timedelta(days=1), [], end
        held.append(lines.slice(start))
    if held:
        yield day, pa.Table.from_batches(held)


def promotions_by_week(data: Data) -> Iterator[tuple[int, pa.Table]]:
    """Yield each week of the sample and its promotions; the source is in order of weeks; one is held at a time."""
    held: list[pa.RecordBatch] = []
    current = 0
    for batch in data.batches("promotions", _CODES):
        start = 0
        runs = pc.run_end_encode(batch.column("week"))
        for week, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            if week != current and held:
                yield current, pa.Table.from_batches(held)
                held = []
            current = week
            held.append(batch.slice(start, end - start))
            start = end
    if held:
        yield current, pa.Table.from_batches(held)


def prepare(data: Data, stock: Path) -> Iterator[Step]:
    """Write the files of every year into `stock`, yielding a step for each; the years of one day or week are held."""
    for day, table in transactions_by_day(data):
        for year, rows in data.scale.by_year(table):
            yield _write(stock, f"pos/transactions/{day + year * YEAR}.parquet", rows)
    for week, table in promotions_by_week(data):
        for year, rows in data.scale.by_year(data.scale.sampled(table)):
            yield _write(stock, f"pos/promotions/week-{week + year * WEEKS:02}.parquet", rows)


def _write(stock: Path, name: str, table: pa.Table) -> Step:
    # Without the Arrow schema a reader sees plain strings where the writer had dictionaries. zstd at level 1
    # costs as much as snappy here (1.4 s for all promotions) and saves a fifth of the bytes.
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", compression_level=1, store_schema=False)
    put(stock / name, sink.getvalue())
    return Step("pos", name, table.num_rows)


def _first_at(instants: pa.TimestampArray, moment: datetime) -> int:
    """Return the position of the first instant (naive UTC, in microseconds) that is not before `moment`."""
    microseconds = int(moment.timestamp()) * 1_000_000
    return bisect_left(range(len(instants)), microseconds, key=lambda n: instants[n].value)
