"""Arrow record batches as Postgres' binary COPY, encoded by pgpq.

A driver that encodes value by value needs half a second of a core for a million rows of eleven columns; pgpq takes a
fifth of that, and the server is what a load waits for. It has no decimals of more than 38 digits: tables with such a
column go value by value. See docs/engine/decisions/0034.
"""

from __future__ import annotations

from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa
from pgpq import ArrowToPostgresBinaryEncoder

from granary.warehouse.connection import execute, quote_name
from granary.warehouse.faults import fault_point
from granary.warehouse.prefetch import Prefetch
from granary.warehouse.records import sql_type

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from psycopg import Copy

    from granary.warehouse.connection import Connection

PART_BYTES = 1024 * 1024
"""What is encoded and sent at a time: little enough to keep memory flat."""


def copy_into(connection: Connection, name: str, batches: Iterable[pa.RecordBatch], *, frozen: bool = False) -> None:
    """Append batches to a table.

    Args:
        connection: where; the rows are part of its transaction.
        name: the table as SQL, quoted.
        batches: of one schema, of types that `sql_type` knows; their columns are named as those of the table. Unless
            they are all there, in a list, a thread encodes the next ones while the server takes those before.
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
    if frozen:  # the commit waits for such a table to be on disk: have it written while the rows still come
        execute(connection, "set local backend_flush_after = '1MB'")
    with connection.cursor() as cursor, cursor.copy(sql.encode()) as copy:
        if any(map(pa.types.is_decimal256, first.schema.types)):
            _copy_rows(copy, first.schema, chain([first], arriving))
        else:
            pieces = encode(first.schema, chain([first], arriving))
            ahead = pieces if isinstance(batches, list) else Prefetch(pieces)
            with closing(ahead):
                for piece in ahead:
                    copy.write(piece)


def copy_into_new(connection: Connection, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Create a temporary table with the columns of a schema, and append batches to it."""
    columns = ", ".join(f"{quote_name(field.name)} {sql_type(field.type)}" for field in schema)
    execute(connection, f"create temporary table {quote_name(name)} ({columns})")
    copy_into(connection, f"pg_temp.{quote_name(name)}", batches)


def encode(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Generator[bytes]:
    """Yield what COPY expects, piece by piece."""
    # Whether a column may be null is for the contract and the server to say, in their words.
    plain = pa.schema([pa.field(field.name, field.type) for field in schema])
    encoder = ArrowToPostgresBinaryEncoder(plain)
    yield encoder.write_header()
    for part in parts(batches):
        yield encoder.write_batch(pa.RecordBatch.from_arrays(part.columns, schema=plain))
    yield encoder.finish()


def parts(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Cut batches into parts of about `PART_BYTES`."""
    for batch in batches:
        rows = max(1, batch.num_rows * PART_BYTES // max(batch.nbytes, 1))
        for start in range(0, batch.num_rows, rows):
            fault_point("mid-copy")
            yield batch.slice(start, rows)


def _copy_rows(copy: Copy, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write rows value by value."""
    copy.set_types([sql_type(kind).partition("(")[0] for kind in schema.types])
    for part in parts(batches):
        for row in zip(*(column.to_pylist() for column in part.columns), strict=True):
            copy.write_row(row)
