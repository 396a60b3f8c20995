"""Rows of the warehouse for a notebook: as Arrow, pandas or Polars, with the rights of an analyst."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_manager import Error

from granary.warehouse.connection import connect_arrow, execute, query, quote_name, quote_relation, reason
from granary.warehouse.errors import GranaryError, UsageError, unknown
from granary.warehouse.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from granary.warehouse.connection import ArrowConnection

To = Literal["arrow", "batches", "pandas", "polars"]
RELATION = re.compile(r"(?:([A-Za-z_][\w$]*)\.)?([A-Za-z_][\w$]*)")
DIGITS = 38
"""What a decimal of Arrow holds that pandas and Polars take, too."""
MARTS = "select schemaname || '.' || tablename from pg_tables where schemaname = $1 union all " + (
    "select schemaname || '.' || viewname from pg_views where schemaname = $1 order by 1"
)


def read(what: str, to: To = "arrow", *, role: str = "analyst") -> Any:
    """Return a table or the answer to a query, read in a transaction that cannot write.

    A `numeric(p, s)` comes as an exact decimal; a number whose digits the server does not declare, such as a sum or a
    mean, as a float of 64 bits: `sum(x)::numeric(14, 2)` keeps it exact. Times are UTC, in microseconds.

    Args:
        what: the name of a relation, by default in `marts`, or SQL.
        to: `arrow` (a `pyarrow.Table`), `pandas` or `polars` (a data frame), or `batches`: a
            `pyarrow.RecordBatchReader`, which takes the memory of a batch at a time.
        role: with whose rights; see docs/engine/access.md.

    Raises:
        UsageError: there is no such relation or form.
        GranaryError: the server does not answer, or refuses the query.
    """
    if to not in To.__args__:  # type: ignore[attr-defined]
        raise unknown("form", to, To.__args__)  # type: ignore[attr-defined]
    settings = Settings.load()
    connection = connect_arrow(settings, role)
    try:
        execute(connection, "set transaction read only")
        execute(connection, "set local time zone 'UTC'")
        answer = connection.cursor()
        answer.execute(_sql(connection, what))
        batches = answer.fetch_record_batch()
        schema = pa.schema([pa.field(one.name, _plain(one), one.nullable) for one in batches.schema])
    except Error as error:
        connection.close()
        words = re.split(r" (?:LINE \d+|Query was): ", reason(error))[0]
        where = " ".join(what.split())[:200]
        raise GranaryError(f"the warehouse refuses it: {words}", where, "correct the query") from None
    except BaseException:
        connection.close()
        raise
    reader = pa.RecordBatchReader.from_batches(schema, _batches(connection, answer, batches, schema))
    if to == "batches":
        return reader
    return given(reader.read_all(), to)


def _sql(connection: ArrowConnection, what: str) -> str:
    """Return the query; for the name of a relation that there is, all of its rows.

    Raises:
        UsageError: there is none of that name.
    """
    if not (named := RELATION.fullmatch(what.strip())):
        return what
    schema, name = named[1] or "marts", named[2]
    relation = quote_relation(schema, name)
    if query(connection, "select to_regclass($1) is null", relation) == [(True,)]:
        there = [str(one) for (one,) in query(connection, MARTS, schema)]
        raise unknown("table", f"{schema}.{name}", there, todo=f"see `granary psql -c '\\d {schema}.*'`")
    return f"select * from {relation}"


def _batches(connection: ArrowConnection, answer: Any, batches: Any, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield the batches of an answer in plain types, and close it and the connection after the last one."""
    try:
        for batch in batches:
            columns = [_as(column, field) for column, field in zip(batch.columns, schema, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
    except Error as error:
        raise GranaryError(f"the warehouse broke off: {reason(error)}", "", "run this again") from None
    finally:
        answer.close()
        connection.close()


def _plain(field: pa.Field) -> pa.DataType:
    """Return the type in which a column is handed on: one that every library knows."""
    kind = field.type
    if pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_field))
    metadata = field.metadata or {}
    if metadata.get(b"POSTGRESQL:type") == b"numeric":
        modifier = int(metadata.get(b"POSTGRESQL:typmod", b"-1")) - 4  # as in numeric.c: precision, then scale
        precision, scale = modifier >> 16, modifier & 0x7FF
        is_declared = modifier >= 0 and 0 <= scale <= precision <= DIGITS
        return pa.decimal128(precision, scale) if is_declared else pa.float64()
    if isinstance(kind, pa.BaseExtensionType):
        return pa.string() if kind.extension_name == "arrow.uuid" else kind.storage_type
    return kind


def _as(column: pa.Array, field: pa.Field) -> pa.Array:
    """Return a column in its plain type.

    Raises:
        GranaryError: it holds a number that a decimal cannot be, such as NaN.
    """
    kind = field.type
    if pa.types.is_list(kind):
        return pa.ListArray.from_arrays(
            column.offsets, _as(column.values, kind.value_field), type=kind, mask=column.is_null()
        )
    if not isinstance(column, pa.ExtensionArray):
        return column
    if column.type.extension_name == "arrow.uuid":
        return pa.array([None if one is None else str(one) for one in column.to_pylist()], pa.string())
    try:
        return column.storage if kind == column.type.storage_type else pc.cast(column.storage, kind)
    except pa.ArrowInvalid:
        todo = f"cast it in the query, such as {quote_name(field.name)}::float8"
        raise GranaryError("a number is no decimal, such as NaN", field.name, todo) from None


def given(table: pa.Table, to: str) -> Any:
    """Return the table as it is, or as a data frame.

    Raises:
        UsageError: the library is not installed.
    """
    if to == "arrow":
        return table
    try:
        if to == "pandas":
            return table.to_pandas()
        return import_module("polars").from_arrow(table)
    except ImportError:
        raise UsageError(f"{to} is not installed here", todo=f"install it: pip install {to}") from None
