"""Arrow record batches as Postgres' binary COPY, encoded by whole columns.

A driver that encodes value by value needs half a second of a core for a million rows of eleven columns; by columns it
takes a tenth of that, and the server is what a load waits for.

Source: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"; the layout of a numeric is that of
`numeric_recv` in the server.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from granary.warehouse.connection import execute, quote_name
from granary.warehouse.faults import fault_point
from granary.warehouse.records import sql_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from granary.warehouse.connection import Connection

Field = tuple[str, "NDArray[Any] | int"]
"""Bytes that each row has, as a numpy type, and their values, or the one that all rows share."""

HEADER, TRAILER = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
LENGTH, NULL = ">i4", -1
"""Each value has its length before it, and -1 says that it is null."""

PART_BYTES = 1024 * 1024
"""What is encoded and sent at a time: enough rows for whole columns to pay, little enough to keep memory flat."""

EPOCH_DAYS = 10_957
"""Days from 1970-01-01, where Arrow counts from, to 2000-01-01, where Postgres does."""
EPOCH_MICROSECONDS = EPOCH_DAYS * 86_400_000_000

NUMBERS = {
    pa.int16(): ">i2",
    pa.int32(): ">i4",
    pa.int64(): ">i8",
    pa.float32(): ">f4",
    pa.float64(): ">f8",
}
NEGATIVE = 0x4000
"""The sign of a numeric below zero."""
LIMB, BITS = np.uint64(0xFFFFFFFF), np.uint64(32)


def copy_into(connection: Connection, name: str, batches: Iterable[pa.RecordBatch], *, frozen: bool = False) -> None:
    """Append batches to a table.

    Args:
        connection: where; the rows are part of its transaction.
        name: the table as SQL, quoted.
        batches: of one schema, of types that `sql_type` knows; their columns are named as those of the table.
        frozen: mark rows as seen by everybody from the start, for a table that this transaction made or emptied: else
            its first reader marks them, and with page checksums all its pages go through the log.

    Raises:
        psycopg.Error: the server refuses the rows.
    """
    arriving = iter(batches)
    first = next(arriving, None)
    if first is None:
        return
    columns = ", ".join(map(quote_name, first.schema.names))
    sql = f"copy {name} ({columns}) from stdin (format binary, freeze {str(frozen).lower()})"
    with connection.cursor() as cursor, cursor.copy(sql.encode()) as copy:
        copy.write(HEADER)
        for batch in chain([first], arriving):
            for part in parts(batch):
                fault_point("mid-copy")
                copy.write(encode(part))
        copy.write(TRAILER)


def copy_into_new(connection: Connection, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Create a temporary table with the columns of a schema, and append batches to it."""
    columns = ", ".join(f"{quote_name(field.name)} {sql_type(field.type)}" for field in schema)
    execute(connection, f"create temporary table {quote_name(name)} ({columns})")
    copy_into(connection, f"pg_temp.{quote_name(name)}", batches)


def parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a batch into parts of about `PART_BYTES`."""
    rows = max(1, batch.num_rows * PART_BYTES // max(batch.nbytes, 1))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def encode(batch: pa.RecordBatch) -> memoryview | bytes:
    """Return the rows of a batch as COPY expects them, without header and trailer.

    Values that take the same number of bytes in each row are laid out as records, by numpy; where texts or nulls come
    between, Arrow joins the pieces row by row.
    """
    rows = batch.num_rows
    if not rows:
        return b""
    pieces: list[pa.Array] = []
    record: list[Field] = [(">i2", batch.num_columns)]
    for column in batch.columns:
        fixed, varying = _column(column)
        record += fixed
        if varying is not None:
            pieces += [_records(rows, record), varying]
            record = []
    if record:
        pieces.append(_records(rows, record))
    joined = pieces[0]
    if len(pieces) > 1:
        joined = pc.binary_join_element_wise(*pieces, pa.scalar(b"", pa.large_binary()))
    _, offsets, data = joined.buffers()
    first, last = np.frombuffer(offsets, np.int64)[[joined.offset, joined.offset + rows]]
    return memoryview(data)[first:last]


def _column(column: pa.Array) -> tuple[list[Field], pa.Array | None]:
    """Return a column's lengths, with its values if each takes as many bytes; else those as Arrow's large_binary."""
    if column.null_count == len(column):
        return [(LENGTH, NULL)], None
    if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
        return _texts(column)
    dtype, values = _values(column)
    width = np.dtype(dtype).itemsize
    if not column.null_count:
        return [(LENGTH, width), (dtype, values)], None
    there = column.is_valid().to_numpy(zero_copy_only=False)
    ends = np.concatenate([[0], np.cumsum(there * width)]).astype(np.int64)
    return [(LENGTH, np.where(there, width, NULL))], _binary(ends, values[there].astype(dtype))


def _texts(column: pa.Array) -> tuple[list[Field], pa.Array | None]:
    lengths = pc.binary_length(column).fill_null(NULL).to_numpy(zero_copy_only=False)
    longest = int(lengths.max())
    if longest and longest == lengths.min():
        _, offsets, data = column.buffers()
        start = int(np.frombuffer(offsets, np.int32)[column.offset])
        dtype = f"V{longest}"
        return [(LENGTH, longest), (dtype, np.frombuffer(data, dtype, len(column), start))], None
    return [(LENGTH, lengths)], column.cast(pa.large_binary()).fill_null(b"") if longest else None


def _values(column: pa.Array) -> tuple[str, NDArray[Any]]:
    """Return values and the type in which the server reads them; where a value is null, it is anything."""
    kind = column.type
    if pa.types.is_decimal(kind):
        return _numerics(column)
    if pa.types.is_timestamp(kind):
        return ">i8", _plain(column.cast(pa.timestamp("us", kind.tz)), np.int64) - EPOCH_MICROSECONDS
    if pa.types.is_date32(kind):
        return ">i4", _plain(column, np.int32) - EPOCH_DAYS
    if pa.types.is_boolean(kind):
        return ">u1", _plain(column.cast(pa.uint8()), np.uint8)
    dtype = NUMBERS[kind]
    return dtype, _plain(column, dtype.replace(">", "="))


def _plain(column: pa.Array, dtype: Any) -> NDArray[Any]:
    return np.frombuffer(column.buffers()[1], dtype, column.offset + len(column))[column.offset :]


def _numerics(column: pa.Array) -> tuple[str, NDArray[Any]]:
    """Return decimals as numerics: digits of base 10,000 with their count, weight, sign and scale.

    The point is between two digits, so the last one is padded. The server drops leading and trailing zeros itself.
    """
    precision, scale = column.type.precision, column.type.scale
    before, after = -(-(precision - scale) // 4), -(-scale // 4)
    words = _plain(column, np.dtype(("<u4", column.type.bit_width // 32)))
    limbs = list(words.T[::-1].astype(np.uint64))
    negative = limbs[0] >= 1 << 31
    carry = negative.astype(np.uint64)
    for place in reversed(range(len(limbs))):  # two's complement: the magnitude is the inverse plus one
        turned = np.where(negative, limbs[place] ^ LIMB, limbs[place]) + carry
        limbs[place], carry = turned & LIMB, turned >> BITS
    found = np.empty((len(column), 4 + before + after), ">i2")
    found[:, 0], found[:, 1], found[:, 3] = before + after, before - 1, scale
    found[:, 2] = np.where(negative, NEGATIVE, 0)
    padding = 10 ** (after * 4 - scale)
    for place in range(3 + before + after, 3, -1):
        found[:, place] = _divide(limbs, 10_000 // padding) * np.uint64(padding)
        padding = 1
    dtype = f"V{found.shape[1] * 2}"
    return dtype, found.view(dtype)[:, 0]


def _divide(limbs: list[NDArray[Any]], divisor: int) -> NDArray[Any]:
    """Divide numbers of 32-bit limbs, the highest first, in place; return the remainders."""
    rest = np.zeros_like(limbs[0])
    for place, limb in enumerate(limbs):
        limbs[place], rest = np.divmod((rest << BITS) | limb, np.uint64(divisor))
    return rest


def _records(rows: int, fields: list[Field]) -> pa.Array:
    """Return fields side by side, as binary values of the same length each."""
    laid = np.empty(rows, [(str(place), dtype) for place, (dtype, _) in enumerate(fields)])
    for place, (_, values) in enumerate(fields):
        laid[str(place)] = values
    return _binary(np.arange(rows + 1, dtype=np.int64) * laid.dtype.itemsize, laid)


def _binary(offsets: NDArray[Any], data: NDArray[Any]) -> pa.Array:
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data.view(np.uint8))]
    return pa.Array.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)
