"""Raw rows as Arrow out of Postgres and into it, and what shows that two sets of them are the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_manager import Error

from granary.warehouse.binary_copy import copy_into
from granary.warehouse.connection import connect_arrow, execute, query, quote_name, reason
from granary.warehouse.errors import GranaryError
from granary.warehouse.reading import plain_batch, plain_schema
from granary.warehouse.records import LOAD_ID, ROW, arrow_type, sql_type

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    import pyarrow.parquet as pq

    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

SESSION = "-c TimeZone=UTC"
BATCH_ROWS = 50_000
ROW_BYTES = 4
"""Of a row in Postgres, beside what it says of its own size."""


@dataclass(frozen=True)
class Counted:
    """Rows of a load: how many, the sum of their hashes, and about their bytes in Postgres."""

    rows: int
    digest: int
    bytes: int


def schema_of(columns: Mapping[str, str]) -> pa.Schema:
    """Return the Arrow schema of a raw table's columns (name -> Postgres type)."""
    return pa.schema([pa.field(name, arrow_type(kind)) for name, kind in columns.items()])


def condition(load_ids: Collection[int]) -> str:
    """Return the condition for rows of loads; its bounds serve the block range index."""
    ids = sorted(int(number) for number in load_ids)
    return f"{LOAD_ID} between {ids[0]} and {ids[-1]} and {LOAD_ID} = any('{{{','.join(map(str, ids))}}}'::bigint[])"


def as_text(connection: Connection) -> None:
    """Have Postgres write values in one way, whatever its settings are: rows are compared as text."""
    execute(
        connection,
        "set local timezone = 'UTC'; set local datestyle = 'ISO, YMD'; set local bytea_output = 'hex';"
        " set local extra_float_digits = 1",
    )


def read(settings: Settings, relation: str, schema: pa.Schema, load_ids: Collection[int]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of loads, in the order in which they came.

    Raises:
        GranaryError: the server breaks off.
    """
    listed = ", ".join(
        f"{quote_name(one.name)}{'::text' if pa.types.is_decimal256(one.type) else ''}" for one in schema
    )
    connection = connect_arrow(settings, "loader", options=SESSION)
    try:
        cursor = connection.cursor()
        cursor.execute(f"select {listed} from {relation} where {condition(load_ids)} order by {LOAD_ID}, {ROW}")
        answer = cursor.fetch_record_batch()
        plain = plain_schema(answer.schema)
        for batch in answer:
            columns = [
                column if column.type == one.type else pc.cast(column, one.type)
                for column, one in zip(plain_batch(batch, plain).columns, schema, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
        cursor.close()
    except Error as error:
        raise GranaryError(f"the warehouse broke off: {reason(error)}", relation, "run this again") from None
    finally:
        connection.close()


def counted(
    connection: Connection, relation: str, columns: Iterable[str], load_ids: Collection[int]
) -> dict[int, Counted]:
    """Return what there is of each of some loads."""
    listed = ", ".join(map(quote_name, columns))
    rows = query(
        connection,
        f"select {LOAD_ID}, count(*), sum(hashtextextended(row({listed})::text, 0)::numeric),"
        f" sum(pg_column_size(r.*))::bigint from {relation} as r where {condition(load_ids)} group by 1 order by 1",
    )
    return {
        int(load_id): Counted(int(number), int(digest), int(size) + ROW_BYTES * int(number))
        for load_id, number, digest, size in rows
    }


def put(connection: Connection, name: str, file: pq.ParquetFile) -> None:
    """Make a temporary table of a file's rows, in the types that the file has."""
    schema = file.schema_arrow
    columns = ", ".join(f"{quote_name(one.name)} {sql_type(one.type)}" for one in schema)
    execute(connection, f"create temporary table {quote_name(name)} ({columns}) on commit drop")
    fill(connection, name, file)


def fill(connection: Connection, name: str, file: pq.ParquetFile) -> None:
    """Add a file's rows to a temporary table."""
    batches = file.iter_batches(BATCH_ROWS)
    copy_into(connection, f"pg_temp.{name}", (batch.cast(file.schema_arrow) for batch in batches))


def total(found: Mapping[int, Counted]) -> str:
    """Return the digest of all rows."""
    return str(sum(one.digest for one in found.values()))
