"""Tables of a Postgres database, whole or past a cursor, as Arrow by binary COPY."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pyarrow as pa
from adbc_driver_manager import Error as DriverError

from ingestion.spec import Chunk, Unit
from warehouse.connection import connect_uri, quote_name, reason
from warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestion.spec import Table


class DatabaseReader:
    """Reads tables of one Postgres database; `Table.location` is "schema.table"."""

    def __init__(self, uri: str) -> None:
        """Remember how to connect; the URI may hold a password and is never shown."""
        self.uri = uri

    def units(self, table: Table, watermark: str | None) -> list[Unit]:
        """Return the one window that is to be read: everything, or what is at or past the watermark."""
        window = (
            f"{table.location} where {table.cursor} >= {watermark}" if table.cursor and watermark else table.location
        )
        return [Unit(window)]

    def read(self, table: Table, unit: Unit, watermark: str | None) -> Iterator[Chunk]:
        """Yield the window's rows.

        Rows at the watermark itself are read again, since others with the same instant may have been committed
        after they were read; merging an unchanged row changes nothing.

        Raises:
            GranaryError: the database does not answer, or stops answering in the middle.
        """
        where = f"{urlsplit(self.uri).path.lstrip('/') or 'database'}, {unit.name}"
        advice = "check that the source database is up, then load again; nothing of this load has landed"
        sql = f"select * from {'.'.join(quote_name(part) for part in table.location.split('.'))}"
        if table.cursor and watermark:
            instant = datetime.fromisoformat(watermark)  # also proves that it is nothing but an instant
            sql += f" where {quote_name(table.cursor)} >= '{instant.isoformat()}'::timestamptz"
        with connect_uri(self.uri, where, advice) as connection:
            try:
                with connection.cursor() as cursor:
                    cursor.execute(sql)
                    reader = cursor.fetch_record_batch()
                    empty = True
                    for batch in reader:
                        empty = False
                        yield Chunk(batch)
                    if empty:
                        yield Chunk(pa.RecordBatch.from_pylist([], schema=reader.schema))
            except DriverError as error:
                raise GranaryError(f"the source database stopped answering: {reason(error)}", where, advice) from None
            except OSError as error:  # what the Arrow stream raises when the connection breaks under it
                words = " ".join(str(error).split())[:200]
                raise GranaryError(f"the source database stopped answering: {words}", where, advice) from None
