"""Rows that lie in an archive, for a trace: read from their files into temporary tables, beside those that raw has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from granary.tiering import records, rows
from granary.tiering.parquet_file import opened
from granary.warehouse.binary_copy import copy_into
from granary.warehouse.connection import columns_of, execute, query, quote_name, quote_relation
from granary.warehouse.records import LOAD_ID

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from granary.explain.links import Model
    from granary.tiering.records import Archive
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

AWAY = """
    select distinct archive_id from ops.load_audit
    where load_id = any($1::bigint[]) and archive_id is not null and superseded_by is null
"""


@dataclass
class _Beside:
    """A staging view over raw and archive together: its name, the temporary table, and the columns of the raw table."""

    view: str
    table: str
    schema: pa.Schema
    loads: set[int]


class Away:
    """The archived rows that a trace needs, within its transaction."""

    def __init__(self, settings: Settings, connection: Connection, models: Collection[Model]) -> None:
        """Make what rows can be put into, for staging models of tables that have archives; no table is made later."""
        self._settings, self._connection = settings, connection
        self._beside: dict[str, _Beside] = {}
        self._files: dict[int, Archive] = {}
        taken = set[str]()
        for model in models:
            if model.source is None or not records.archives(connection, *model.source):
                continue
            if model.source[1] not in taken:
                taken.add(model.source[1])
                self._beside[model.node] = self._make(model, len(taken))

    def _make(self, model: Model, number: int) -> _Beside:
        assert model.source is not None
        raw = quote_relation(f"raw_{model.source[0]}", model.source[1])
        # It is called as the raw table is, so that the view's query needs no other alias.
        table = f"pg_temp.{quote_name(model.source[1])}"
        view = f"beside_{number}"
        copy = (
            f"create temporary table {quote_name(model.source[1])} on commit drop as select * from {raw} with no data"
        )
        execute(self._connection, copy)
        ((printed, text),) = query(
            self._connection,
            "select $1::text::regclass::text, pg_get_viewdef($2::text::regclass)",
            raw,
            model.sql_name,
        )
        body = (
            re.sub(rf'(?<![\w".]){re.escape(printed)}(?![\w"])', table.replace("\\", r"\\"), text).rstrip().rstrip(";")
        )
        both = f"select * from {model.sql_name} union all select * from ({body}) as archived"
        execute(self._connection, f"create temporary view {view} as {both}")
        return _Beside(f"pg_temp.{view}", table, rows.schema_of(columns_of(self._connection, raw)), set())

    def relation(self, model: Model) -> str:
        """Return what a model's rows are read from."""
        beside = self._beside.get(model.node)
        return beside.view if beside else model.sql_name

    def fetch(self, model: Model, load_ids: Collection[int]) -> None:
        """Read the rows of these loads that are in an archive.

        Raises:
            GranaryError: a file is not there, or is another than was written.
        """
        beside = self._beside.get(model.node)
        wanted = set(load_ids) - beside.loads if beside else set()
        if beside is None or not wanted:
            return
        beside.loads |= wanted
        for (number,) in query(self._connection, AWAY, sorted(wanted)):
            (one,) = records.archives(self._connection, number=int(number))
            mine = wanted & set(records.loads_in(self._connection, one.archive_id))
            self._files |= dict.fromkeys(mine, one)
            copy_into(self._connection, beside.table, list(self._read(one, beside.schema, mine)))
        execute(self._connection, f"analyze {beside.table}")

    def _read(self, one: Archive, schema: pa.Schema, load_ids: set[int]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of loads in the types that the raw table has now; columns that came later are empty."""
        assert one.sha256 is not None
        listed = pa.array(sorted(load_ids), pa.int64())
        with opened(one.files(self._settings), one.path, one.sha256) as file:
            for batch in file.iter_batches(rows.BATCH_ROWS):
                mine = batch.filter(pc.is_in(batch.column(LOAD_ID), listed))
                columns = [
                    pc.cast(mine.column(each.name), each.type)
                    if each.name in mine.schema.names
                    else pa.nulls(mine.num_rows, each.type)
                    for each in schema
                ]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def file_of(self, load_id: int) -> str:
        """Return the file that has the rows of a load; '' if raw has them."""
        one = self._files.get(load_id)
        return f"{one.place}/{one.path}" if one else ""

    def rows_of(self, model: Model) -> dict[int, int]:
        """Return how many rows of each load were read."""
        beside = self._beside.get(model.node)
        if beside is None:
            return {}
        found = query(self._connection, f"select {LOAD_ID}, count(*) from {beside.table} group by 1")
        return {int(load_id): int(number) for load_id, number in found}
