"""Parquet and ORC: columns already, read a batch or a stripe at a time."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.spec import Chunk

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH_ROWS = 131_072


def read_parquet(source: IO[bytes] | str) -> Iterator[Chunk]:
    """Yield a Parquet file's rows.

    Arrow's threads are not used: reading is ahead of the warehouse as it is, and for files of some thousand rows
    they take nearly as much processor time as the decoding itself.
    """
    with pq.ParquetFile(source) as file:
        empty = True
        for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
            empty = False
            yield Chunk(_flat(batch))
        if empty:
            yield Chunk(_flat(pa.RecordBatch.from_pylist([], schema=file.schema_arrow)))


def read_orc(source: IO[bytes] | str) -> Iterator[Chunk]:
    """Yield an ORC file's rows, by stripe."""
    from pyarrow import orc  # noqa: PLC0415 - not every build of Arrow has it

    file = orc.ORCFile(source)
    for number in range(file.nstripes):
        stripe = _flat(file.read_stripe(number))
        yield from (Chunk(stripe.slice(at, BATCH_ROWS)) for at in range(0, stripe.num_rows, BATCH_ROWS))
    if not file.nrows:
        yield Chunk(_flat(pa.RecordBatch.from_pylist([], schema=file.schema)))


def _flat(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Write structs, lists and maps as JSON text: raw tables have plain columns."""
    if not any(pa.types.is_nested(field.type) for field in batch.schema):
        return batch
    columns = [
        pa.array([None if value is None else to_json(value) for value in values.to_pylist()], pa.string())
        if pa.types.is_nested(values.type)
        else values
        for values in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def to_json(value: Any) -> str:
    """Return a nested value as JSON text; what JSON lacks (dates, decimals, bytes) is written as text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)
