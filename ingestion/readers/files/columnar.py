"""Parquet and ORC: columns already, read a batch or a stripe at a time."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ingestion.checks import row_of
from ingestion.spec import Chunk, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH_ROWS = 131_072
LOST: Any = object()
"""Stands for a value that is neither null nor text."""


def read_parquet(source: IO[bytes] | str) -> Iterator[Chunk]:
    """Yield a Parquet file's rows; pages that have a checksum are compared with it.

    INT96 (timestamps of Impala and of old Spark) is a day of any year and the nanoseconds in it: as nanoseconds from
    1970, years before 1678 and after 2262 would become others.

    Arrow's threads are not used: reading is ahead of the warehouse as it is, and for files of some thousand rows
    they take nearly as much processor time as the decoding itself.
    """
    with pq.ParquetFile(source, coerce_int96_timestamp_unit="us", page_checksum_verification=True) as file:
        empty = True
        for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
            empty = False
            yield _chunk(batch)
        if empty:
            yield _chunk(pa.RecordBatch.from_pylist([], schema=file.schema_arrow))


def read_orc(source: IO[bytes] | str) -> Iterator[Chunk]:
    """Yield an ORC file's rows, by stripe."""
    from pyarrow import orc  # noqa: PLC0415 - not every build of Arrow has it

    file = orc.ORCFile(source)
    for number in range(file.nstripes):
        stripe = file.read_stripe(number)
        yield from (_chunk(stripe.slice(at, BATCH_ROWS)) for at in range(0, stripe.num_rows, BATCH_ROWS))
    if not file.nrows:
        yield _chunk(pa.RecordBatch.from_pylist([], schema=file.schema))


def _chunk(batch: pa.RecordBatch) -> Chunk:
    """Write structs, lists and maps as JSON text: raw tables have plain columns.

    A row that holds a date or time within them that no calendar has is refused.
    """
    if not any(pa.types.is_nested(field.type) for field in batch.schema):
        return Chunk(batch)
    columns: list[pa.Array] = []
    lost: dict[int, str] = {}
    for name, values in zip(batch.schema.names, batch.columns, strict=True):
        columns.append(values)
        if pa.types.is_nested(values.type):
            texts = [_nested(values, index) for index in range(len(values))]
            lost |= {index: name for index, text in enumerate(texts) if text is LOST}
            columns[-1] = pa.array([None if text is LOST else text for text in texts], pa.string())
    flat = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    if not lost:
        return Chunk(flat)
    reason = "holds a value that JSON cannot, such as a date outside of the years 1 to 9999"
    rejected = {index: Rejected(name, reason, row_of(flat, index)) for index, name in lost.items()}
    keep = pa.array([index not in lost for index in range(flat.num_rows)])
    return Chunk(flat.filter(keep), tuple(sorted(rejected.items())))


def _nested(values: pa.Array, index: int) -> Any:
    try:
        value = values[index].as_py()
        return None if value is None else to_json(value)
    except (OverflowError, ValueError):
        return LOST


def to_json(value: Any) -> str:
    """Return a nested value as JSON text; what JSON lacks (dates, decimals, bytes) is written as text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)
