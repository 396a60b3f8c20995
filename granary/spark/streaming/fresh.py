"""The rows of event models that no build has yet, in front of those that it has: the schema `fresh`.

`fresh.MODEL__stream` is what a stream computed, in the transaction that landed the events; `fresh.MODEL` is what people
read: the model as it is built, and of the stream the rows of loads that the build has not seen. A build moves the
model's watermark in its own transaction, so each event is in the view once, before it, while it commits and after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from granary.dbt.manifest_nodes import BUILT, FRESH, STREAM
from granary.warehouse.binary_copy import copy_into
from granary.warehouse.connection import columns_of, connect, count, execute, query, quote_name, quote_relation
from granary.warehouse.errors import GranaryError
from granary.warehouse.records import arrow_type

if TYPE_CHECKING:
    from granary.spark.streaming.models import EventModel
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings
    from granary.warehouse.writer import LoadTransaction

SEEN = "select load_id from ops.model_watermarks where model = $1 and source = $2"


@dataclass(frozen=True)
class FreshTable:
    """Where the rows of a model go: its relation as SQL, and its columns as Arrow."""

    model: EventModel
    sql_name: str
    schema: pa.Schema

    def add(self, tx: LoadTransaction, rows: pa.Table, seen: int) -> None:
        """Add rows, and take out those that a build has by now."""
        count(tx.connection, f"delete from {self.sql_name} where load_id <= {int(seen)}")
        if rows.num_rows:
            copy_into(tx.connection, self.sql_name, rows.select(self.schema.names).cast(self.schema).to_batches())


def prepare(settings: Settings, source: str, model: EventModel) -> FreshTable:
    """Make the table and the view of a model, if they are not there or are of other columns.

    Raises:
        GranaryError: the model was never built, or does not say which loads it holds.
    """
    schema = model.schema.removesuffix(BUILT) + FRESH
    table, view = quote_relation(schema, model.alias + STREAM), quote_relation(schema, model.alias)
    built = quote_relation(model.schema, model.alias)
    with connect(settings, role="transformer") as connection:
        columns = columns_of(connection, built)
        if not columns or not query(connection, SEEN, model.relation, source):
            raise GranaryError(
                f"{model.name} was never built, or does not follow the loads of {source}",
                model.relation,
                f"build it once: dbt build --select +{model.name}",
            )
        fields = [pa.field(name, _kind(model, name, kind)) for name, kind in columns.items()]
        if columns_of(connection, table) != columns:
            _make(connection, schema, table, built)
        if query(connection, "select to_regclass($1) is null", view) == [(True,)]:
            _show(connection, schema, view, built, table, source, model, list(columns))
        connection.commit()
    return FreshTable(model, table, pa.schema(fields))


def seen_by_build(connection: Connection, source: str, model: EventModel) -> int:
    """Return the highest load that the built model holds."""
    return int(query(connection, SEEN, model.relation, source)[0][0])


def _kind(model: EventModel, name: str, kind: str) -> pa.DataType:
    try:
        return arrow_type(kind)
    except GranaryError:
        raise GranaryError(
            f"a stream cannot compute {model.name}: column {name} is {kind}", model.relation, "cast it to another type"
        ) from None


def _make(connection: Connection, schema: str, table: str, built: str) -> None:
    ((loader, reader),) = query(connection, "select ops.grantee('loader'), ops.grantee('analyst_pii')")
    execute(connection, f"create schema if not exists {quote_name(schema)}")
    execute(connection, f"grant usage on schema {quote_name(schema)} to {loader}, {reader}")
    execute(connection, f"drop table if exists {table} cascade")  # raw has its events: the next build shows them
    execute(connection, f"create table {table} as table {built} with no data")
    execute(connection, f"grant select, insert, delete on {table} to {loader}")


def _show(
    connection: Connection,
    schema: str,
    view: str,
    built: str,
    table: str,
    source: str,
    model: EventModel,
    columns: list[str],
) -> None:
    listed = ", ".join(map(quote_name, columns))
    ((literals,),) = query(
        connection, "select format('model = %L and source = %L', $1::text, $2::text)", model.relation, source
    )
    execute(
        connection,
        f"create view {view} as select {listed} from {built} union all select {listed} from {table} where load_id > "
        f"(select seen.load_id from ops.model_watermarks as seen where {literals})",
    )
    ((reader,),) = query(connection, "select ops.grantee('analyst_pii')")
    execute(connection, f"grant select on {view} to {reader}")
    words = f"{model.name} with the events that came since it was built; granary stream {source} --spark"
    ((comment,),) = query(connection, "select format('comment on view %s is %L', $1::text, $2::text)", view, words)
    execute(connection, comment)
