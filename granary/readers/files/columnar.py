"""Parquet and ORC: columns already, read a batch or a stripe at a time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from granary.load.contract import row_of
from granary.load.values import as_text
from granary.readers.files import stripes
from granary.readers.files.unpack import damaged
from granary.sources.units import Rejected, SourceBatch, UnreachableError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH_ROWS, READ_BYTES = 131_072, 1 << 20
SCRIPT = Path(__file__).with_name("stripes.py")
ADVICE = "ask the source for Parquet, or for dates without a time"
NO_JSON = "holds what JSON cannot: a number that is not finite, a NUL, or a date outside of the years 1 to 9999"
LOST: Any = object()
"""Stands for a value that is neither null nor text."""


def read_parquet(source: IO[bytes] | str) -> Iterator[SourceBatch]:
    """Yield a Parquet file's rows; pages that have a checksum are compared with it.

    INT96 (timestamps of Impala and of old Spark) is a day of any year and the nanoseconds in it: as nanoseconds from
    1970, years before 1678 and after 2262 would become others.

    Arrow's threads are not used: reading is ahead of the warehouse as it is, and for files of some thousand rows
    they take nearly as much processor time as the decoding itself.
    """
    try:
        with pq.ParquetFile(source, coerce_int96_timestamp_unit="us", page_checksum_verification=True) as file:
            empty = True
            for batch in file.iter_batches(BATCH_ROWS, use_threads=False):
                empty = False
                yield source_batch(batch)
            if empty:
                yield source_batch(pa.RecordBatch.from_pylist([], schema=file.schema_arrow))
    except UnicodeDecodeError as error:  # a name of a column
        raise damaged(error, "", "parquet") from None


def read_orc(source: IO[bytes] | str) -> Iterator[SourceBatch]:
    """Yield an ORC file's rows, as another process reads them, which a damaged file may end."""
    command = [sys.executable, "-I", str(SCRIPT)]
    with ExitStack() as stack:
        file = stack.enter_context(Path(source).open("rb")) if isinstance(source, str) else source
        words = stack.enter_context(tempfile.TemporaryFile())
        child = subprocess.Popen(command, stdin=file, stdout=subprocess.PIPE, stderr=words)
        assert child.stdout is not None
        try:
            try:
                with pa.ipc.open_stream(child.stdout) as stream:
                    empty = True
                    for batch in stream:
                        empty = False
                        yield source_batch(batch)
                    if empty:
                        yield source_batch(pa.RecordBatch.from_pylist([], schema=stream.schema))
            except (pa.ArrowException, OSError, UnicodeDecodeError):
                if not child.wait():
                    raise
            code = child.wait()
        finally:
            child.kill()
            child.communicate()
        words.seek(0)
        output = words.read(READ_BYTES).decode("utf-8", "replace")
    if code in (stripes.HERE, -signal.SIGKILL, -signal.SIGTERM):
        raise UnreachableError(
            f"the process that reads ORC failed: {output.strip() or 'it was ended'}", "", "load it again"
        )
    if code == stripes.OUTSIDE:
        names = ", ".join(map(repr, json.loads(output.strip().splitlines()[-1])))
        reason = f"column {names} has a time before 1678 or after 2261, which cannot be read from ORC: {ADVICE}"
        raise UnreadableError(reason, "", ADVICE)
    if code:
        raise damaged(ValueError(output.strip() or "its reader ended early"), "", "orc")


def source_batch(batch: pa.RecordBatch) -> SourceBatch:
    """Write structs, lists and maps as JSON text: raw tables have plain columns.

    A row is refused if they hold what JSON cannot: a date or time that no calendar has, a number that is not finite.
    """
    if not any(pa.types.is_nested(field.type) for field in batch.schema):
        return SourceBatch(batch)
    columns: list[pa.Array] = []
    lost: dict[int, str] = {}
    for name, received in zip(batch.schema.names, batch.columns, strict=True):
        values = received
        columns.append(values)
        if pa.types.is_nested(values.type):
            values = values.cast(_pythonic(values.type), safe=False)
            texts = [_nested(values, index) for index in range(len(values))]
            lost |= {index: name for index, text in enumerate(texts) if text is LOST}
            columns[-1] = pa.array([None if text is LOST else text for text in texts], pa.string())
    flat = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    if not lost:
        return SourceBatch(flat)
    rejected = {index: Rejected(name, NO_JSON, row_of(flat, index)) for index, name in lost.items()}
    keep = pa.array([index not in lost for index in range(flat.num_rows)])
    return SourceBatch(flat.filter(keep), tuple(sorted(rejected.items())))


def _nested(values: pa.Array, index: int) -> Any:
    try:
        value = values[index].as_py()
        return None if value is None else to_json(value)
    except (OverflowError, ValueError):
        return LOST


def _pythonic(kind: pa.DataType) -> pa.DataType:
    """Return a nested type with microseconds in place of nanoseconds, of which Python's times have none."""
    t = pa.types
    if t.is_struct(kind):
        return pa.struct([field.with_type(_pythonic(field.type)) for field in kind])
    if t.is_map(kind):
        return pa.map_(_pythonic(kind.key_type), _pythonic(kind.item_type))
    if t.is_list(kind) or t.is_large_list(kind):
        inner = kind.value_field.with_type(_pythonic(kind.value_type))
        return pa.list_(inner) if t.is_list(kind) else pa.large_list(inner)
    if getattr(kind, "unit", "") != "ns":
        return kind
    return pa.timestamp("us", kind.tz) if t.is_timestamp(kind) else pa.duration("us") if t.is_duration(kind) else kind


def to_json(value: Any) -> str:
    """Return a nested value as JSON text; what JSON lacks (dates, decimals, bytes) is written as text.

    Raises:
        ValueError: it holds a number that is not finite, or a NUL, which no reader of JSON takes.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain, allow_nan=False)
    if "\\u0000" in text:
        raise ValueError("a text holds a NUL")
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return as_text(pa.array([value], pa.duration("us")))[0].as_py()
    return value.hex() if isinstance(value, bytes) else str(value)
