"""The tills: one Parquet file of transactions per business date, one of promotions per week."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from demo.clock import LAST_DAY, OPENING, days_between, ends_at, starts_at
from demo.files import put
from demo.progress import Step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, datetime
    from pathlib import Path

    from demo.data import Data

_CODES = ("display_location", "mailer_location")


def transactions_by_day(data: Data) -> Iterator[tuple[date, pa.Table]]:
    """Yield each business date with sales and its lines; the source is in order of time."""
    table = data.read("transactions")
    instants = table["transaction_timestamp"].combine_chunks()
    start = _first_at(instants, starts_at(days_between(OPENING, LAST_DAY)[0]))
    for day in days_between(OPENING, LAST_DAY):
        end = _first_at(instants, ends_at(day))
        if end > start:
            yield day, table.slice(start, end - start)
        start = end


def promotions_by_week(data: Data) -> Iterator[tuple[int, pa.Table]]:
    """Yield each week and its promotions; the source is in order of weeks; one is held at a time."""
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
    """Write the files of the whole year into `stock`, yielding a step for each."""
    for day, table in transactions_by_day(data):
        yield _write(stock, f"pos/transactions/{day}.parquet", table)
    for week, table in promotions_by_week(data):
        yield _write(stock, f"pos/promotions/week-{week:02}.parquet", table)


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
