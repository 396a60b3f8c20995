"""A file in a folder, bucket or SFTP folder: CSV, Parquet or Excel, there as a whole or not at all."""

from __future__ import annotations

import tempfile
from contextlib import closing
from typing import IO, TYPE_CHECKING, Any

import psycopg
from adbc_driver_manager import Error
from psycopg import sql

from granary.deliver.take import SCHEMA, session, source_of
from granary.readers.files.destination import open_destination
from granary.warehouse import published
from granary.warehouse.connection import connect_arrow, reason
from granary.warehouse.errors import GranaryError, missing_package
from granary.warehouse.faults import fault_point
from granary.warehouse.reading import plain_batch, plain_schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.deliver.spec import Delivery, Files
    from granary.warehouse.settings import Settings

SUFFIX = {"csv": "csv", "parquet": "parquet", "excel": "xlsx"}
EXCEL_ROWS = 1_048_576
EXCEL_DIGITS = 15
CHUNK = 1 << 20


def name_of(delivery: Delivery, target: Files, publish: object) -> str:
    """Return the name of the file of a publish."""
    return f"{(target.name or delivery.name).format(publish=publish)}.{SUFFIX[target.format]}"


def place_of(target: Files) -> str:
    """Return where it goes, without credentials."""
    return open_destination(target.place, target.credentials).place


def write(
    settings: Settings, delivery: Delivery, target: Files, is_known: Callable[[int], bool]
) -> tuple[int, int, str]:
    """Write the rows as of the last publish, unless that is there.

    Returns:
        The publish, the rows (-1 for no file), and what readers of the file should know.

    Raises:
        GranaryError: the role may not read them, the place refuses it, or the format cannot hold them.
    """
    place = open_destination(target.place, target.credentials)
    if target.format == "csv":
        reader, publish = published.at_one_publish(
            settings, SCHEMA, f"delivery {delivery.name}", lambda: session(settings, delivery.role)
        )
        with closing(reader):
            if is_known(publish):
                return publish, -1, ""
            with place.writing(name_of(delivery, target, publish)) as file:
                rows = _csv(reader, delivery, file)
                fault_point("deliver-file-written")
        return publish, rows, place.note
    arrow, publish = published.at_one_publish(
        settings,
        SCHEMA,
        f"delivery {delivery.name}",
        lambda: connect_arrow(settings, delivery.role, options=published.SNAPSHOT),
    )
    with closing(arrow):
        if is_known(publish):
            return publish, -1, ""
        with place.writing(name_of(delivery, target, publish)) as file:
            rows = _columnar(arrow, delivery, target, file)
            fault_point("deliver-file-written")
    return publish, rows, place.note


def _ordered(delivery: Delivery) -> sql.Composable:
    """Return the rows as a query, ordered by the key if there is one."""
    rows = sql.SQL("select * from ({}) as q").format(source_of(delivery))
    if not delivery.key:
        return rows
    return sql.SQL("{} order by {}").format(rows, sql.SQL(", ").join(map(sql.Identifier, delivery.key)))


def _csv(reader: Any, delivery: Delivery, file: IO[bytes]) -> int:
    try:
        with reader.cursor() as cursor:
            statement = sql.SQL("copy ({}) to stdout (format csv, header true, encoding 'UTF8')").format(
                _ordered(delivery)
            )
            with cursor.copy(statement) as out:
                for part in out:
                    file.write(part)
            return int(cursor.rowcount)
    except psycopg.Error as error:
        raise _refused(error, delivery) from None


def _columnar(arrow: Any, delivery: Delivery, target: Files, file: IO[bytes]) -> int:
    cursor = arrow.cursor()
    try:
        cursor.execute(_ordered(delivery).as_string(None))
        answer = cursor.fetch_record_batch()
        schema = plain_schema(answer.schema)
        batches = (plain_batch(one, schema) for one in answer)
        return (_parquet if target.format == "parquet" else _excel)(batches, schema, delivery, file)
    except Error as error:
        raise _refused(error, delivery) from None
    finally:
        cursor.close()


def _refused(error: Exception, delivery: Delivery) -> GranaryError:
    todo = f"correct the delivery, or grant it to {delivery.role}"
    return GranaryError(f"the warehouse refuses it: {reason(error)}", f"delivery {delivery.name}", todo)


def _parquet(batches: Any, schema: Any, delivery: Delivery, file: IO[bytes]) -> int:
    import pyarrow.parquet as pq  # noqa: PLC0415 - only this format pays

    rows = 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def _excel(batches: Any, schema: Any, delivery: Delivery, file: IO[bytes]) -> int:
    """Write a sheet; texts stay texts, also those that look like a formula, and long numbers are written as text."""
    try:
        import xlsxwriter  # noqa: PLC0415 - an extra
    except ImportError:
        raise missing_package("Excel", "xlsxwriter", "files") from None
    rows = 0
    with tempfile.TemporaryFile() as local:
        book = xlsxwriter.Workbook(
            local,
            {"constant_memory": True, "remove_timezone": True, "strings_to_formulas": False, "strings_to_urls": False},
        )
        sheet = book.add_worksheet(delivery.name[:31])
        formats = {
            "date": book.add_format({"num_format": "yyyy-mm-dd"}),
            "datetime": book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"}),
        }
        sheet.write_row(0, 0, schema.names)
        for batch in batches:
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                rows += 1
                if rows >= EXCEL_ROWS:
                    what = f"Excel holds {EXCEL_ROWS - 1:,} rows below a header"
                    raise GranaryError(what, f"delivery {delivery.name}", "choose CSV or Parquet, or a query")
                for place, value in enumerate(row):
                    _cell(sheet, rows, place, value, formats)
        book.close()
        local.seek(0)
        while part := local.read(CHUNK):
            file.write(part)
    return rows


def _cell(sheet: Any, row: int, place: int, value: Any, formats: dict[str, Any]) -> None:
    kind = type(value).__name__
    if value is None:
        return
    if kind in formats:
        sheet.write_datetime(row, place, value, formats[kind])
    elif kind == "bool":
        sheet.write_boolean(row, place, value)
    elif kind in ("int", "float", "Decimal") and len(str(value).lstrip("-").replace(".", "")) <= EXCEL_DIGITS:
        sheet.write_number(row, place, value)
    else:
        sheet.write_string(row, place, str(value))
