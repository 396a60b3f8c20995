"""A micro-batch of Spark in one transaction of the warehouse: rows, ledger, positions, and what models make of them.

Spark may give a batch again, with the same offsets, as often as it likes: the warehouse says which of them have landed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from granary.spark.streaming.models import view_of
from granary.streams.log import Message, Run, UnavailableError
from granary.streams.positions import of_kind, watermark_of
from granary.warehouse.connection import quote_name, quote_relation
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point
from granary.warehouse.records import LOAD_ID, arrow_type
from granary.warehouse.writer import LoadTransaction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from granary.load.batch_stage import LoadResult
    from granary.spark.streaming.fresh import FreshTable
    from granary.streams.landing import Landing
    from granary.streams.log import Positions
    from granary.warehouse.connection import Connection
    from granary.warehouse.settings import Settings

ROW_TYPES = {"jsonb": pa.string()}


class Engine(Protocol):
    """What computes models."""

    def compute(self, fresh: FreshTable, events: pa.Table) -> tuple[pa.Table, int]:
        """Return a model's rows of these raw rows, and the highest load that its build has."""
        ...


@dataclass(frozen=True)
class Batches:
    """Where micro-batches go: into raw, and into the tables of event models by the raw table that they read."""

    settings: Settings
    landing: Landing
    fresh: tuple[FreshTable, ...]
    engine: Engine
    run_id: str

    def land(self, connection: Connection, batch: pa.Table) -> list[LoadResult]:
        """Bring what of a batch has not landed into the warehouse; return what each partition's load did.

        Raises:
            GranaryError: the batch begins behind what the warehouse holds.
        UnavailableError: another load of the source takes long.
        """
        source = self.landing.source.name
        with self._begin(connection) as tx:
            runs = not_landed(runs_of(batch), stored(connection, self.landing))
            done = self.landing.land(tx, self.landing.decode(runs), self.run_id) if runs else []
            for fresh in self.fresh:
                ids = [i for one in done if one.table == fresh.model.topic_table for i in one.load_ids]
                if ids:
                    rows, seen = self.engine.compute(fresh, raw_rows(tx, source, fresh.model.topic_table, ids))
                    fresh.add(tx, rows, seen)
            fault_point("spark-before-commit")
        fault_point("spark-after-commit")
        return done

    def _begin(self, connection: Connection) -> LoadTransaction:
        try:
            return LoadTransaction(self.settings, self.landing.source.name, connection)
        except GranaryError as error:
            raise UnavailableError(error.what, error.where, error.todo) from None


def stored(connection: Connection, landing: Landing) -> Positions:
    """Return where the warehouse is in every partition."""
    found: Positions = {}
    for table in landing.tables.values():
        found |= of_kind(watermark_of(connection, landing.source.name, table.name), landing.kind)
    return found


def runs_of(batch: pa.Table) -> list[Run]:
    """Return a batch's runs, in the order of their partitions and offsets."""
    runs = []
    for row in sorted(batch.to_pylist(), key=lambda row: (row["topic"], row["partition"], row["start"])):
        parts = zip(row["messages"], row["offsets"], row["sent"], strict=True)
        messages = tuple(Message(value, line, at) for value, line, at in parts)
        runs.append(Run(row["topic"], row["partition"], str(row["start"]), str(row["end"]), messages))
    return runs


def not_landed(runs: Iterable[Run], positions: Mapping[str, str]) -> list[Run]:
    """Return what of runs has not landed, one run for each partition, which begins where the warehouse is.

    Raises:
        GranaryError: messages between are missing.
    """
    joined: dict[str, Run] = {}
    for run in runs:
        before = joined.get(run.partition)
        at = before.end if before else positions.get(run.partition)
        if at is not None and int(run.end) <= int(at):
            continue
        if at is not None and int(str(run.start)) > int(at):
            raise GranaryError(
                f"Spark begins at offset {run.start}, and the warehouse holds what is before {at}",
                run.partition,
                "start the stream again: it begins where the warehouse is",
            )
        messages = tuple(one for one in run.messages if at is None or one.line is None or one.line >= int(at))
        if before:
            joined[run.partition] = replace(before, end=run.end, messages=before.messages + messages)
        else:
            joined[run.partition] = replace(run, start=at, messages=messages)
    return list(joined.values())


def raw_rows(tx: LoadTransaction, source: str, table: str, load_ids: Sequence[int]) -> pa.Table:
    """Return the raw rows of some loads: those that were sound, new, and of nobody who is forgotten."""
    relation = quote_relation(f"raw_{source}", table)
    kinds = {
        str(name): str(kind)
        for name, kind in tx.query(
            "select attname::text, format_type(atttypid, atttypmod) from pg_attribute"
            " where attrelid = to_regclass($1) and attnum > 0 and not attisdropped order by attnum",
            relation,
        )
    }
    listed = ", ".join(
        f"{quote_name(name)}::text" if kind in ROW_TYPES else quote_name(name) for name, kind in kinds.items()
    )
    rows: list[tuple[Any, ...]] = tx.query(f"select {listed} from {relation} where {LOAD_ID} = any($1)", list(load_ids))
    schema = pa.schema([(name, ROW_TYPES.get(kind) or arrow_type(kind)) for name, kind in kinds.items()])
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(list(values), field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def raw_view(source: str, table: str) -> str:
    """Return what a raw table is called in Spark."""
    return view_of(f"raw_{source}.{table}")
