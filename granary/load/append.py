"""Rows that arrive outside of units that can be read again: micro-batches, webhooks, changes, replayed rows."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import psycopg
import pyarrow as pa

from granary.load.batch_stage import BatchStage, LoadResult, ShapeChangedError, UnitLoad
from granary.sources.units import Rejected, SourceBatch
from granary.warehouse import quarantine
from granary.warehouse.ledger import record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from granary.sources.spec import Source, Table
    from granary.sources.units import Unit
    from granary.warehouse.writer import LoadTransaction

OF_THE_DATA = ("22", "23", "54")
"""Classes of SQLSTATE that a row can be the cause of: data, integrity constraints, limits of the server."""


def append_sound(
    tx: LoadTransaction,
    source: Source,
    table: Table,
    unit: Unit,
    source_batches: Iterable[SourceBatch],
    *,
    run_id: str = "",
    position: str | None = None,
    data_at: datetime | None = None,
    once: bool = False,
) -> LoadResult:
    """Like `append`, but a row that the warehouse itself refuses goes to the quarantine, too, and stops nothing."""
    rows = list(source_batches)

    def attempt(some: list[SourceBatch]) -> LoadResult:
        return append(tx, source, table, unit, some, run_id=run_id, position=position, data_at=data_at, once=once)

    def refusal(batch: pa.RecordBatch) -> str | None:
        """Return the state with which the warehouse refuses rows; its words may show their values."""
        try:
            attempt([SourceBatch(batch)])
        except psycopg.Error as error:
            return _state(error)
        finally:
            tx.undo()
        return None

    tx.savepoint()
    try:
        return attempt(rows)
    except psycopg.Error as error:
        _state(error)
        tx.undo()
    return attempt([_without(source_batch, _refused(source_batch.batch, 0, refusal)) for source_batch in rows])


def _state(error: psycopg.Error) -> str:
    """Return the SQLSTATE of an error that a row can be the cause of; any other is raised."""
    state = error.sqlstate or ""
    if state[:2] not in OF_THE_DATA:
        raise error
    return state


def _refused(batch: pa.RecordBatch, first: int, refusal: Callable[[pa.RecordBatch], str | None]) -> dict[int, str]:
    """Return the places of the rows that are refused, each with its state, by halving."""
    state = refusal(batch) if batch.num_rows else None
    if state is None:
        return {}
    if batch.num_rows == 1:
        return {first: state}
    half = batch.num_rows // 2
    return _refused(batch.slice(0, half), first, refusal) | _refused(batch.slice(half), first + half, refusal)


def _without(source_batch: SourceBatch, refused: dict[int, str]) -> SourceBatch:
    """Return a batch in which these rows of its batch are rejected."""
    if not refused:
        return source_batch
    places, rejected = source_batch.places(0), list(source_batch.rejected)
    for index, state in refused.items():
        row = source_batch.batch.slice(index, 1).to_pylist()[0]
        rejected.append((places[index].as_py(), Rejected("", f"is refused by the warehouse (SQLSTATE {state})", row)))
    keep = pa.array([index not in refused for index in range(source_batch.batch.num_rows)])
    return replace(
        source_batch, batch=source_batch.batch.filter(keep), rejected=tuple(sorted(rejected, key=lambda pair: pair[0]))
    )


def append(
    tx: LoadTransaction,
    source: Source,
    table: Table,
    unit: Unit,
    source_batches: Iterable[SourceBatch],
    *,
    run_id: str = "",
    position: str | None = None,
    data_at: datetime | None = None,
    once: bool = False,
) -> LoadResult:
    """Add rows to a raw table within a transaction that the caller commits; all rows of the call are in memory.

    Tables that are merged by key take the rows so, and a row that is older than the one that is there (by the
    table's cursor) is left out. A table that appends and has a key takes a row once. Refused rows go to the
    quarantine and never fail the batch.

    Args:
        tx: the source's transaction; nothing is visible before it commits.
        source: the source of the table.
        table: the contract.
        unit: what the ledger calls the batch, such as "redemptions[0]", or the file that replayed rows came from.
        source_batches: the rows.
        run_id: the run that this batch belongs to, for the ledger.
        position: where the source is read on after this batch, as text; it becomes the table's watermark.
        data_at: when the newest of the rows happened, if that is known.
        once: whether the caller knows a row that comes again: then two refused rows of the same content are two.

    Raises:
        ContractBrokenError: the batch has another shape than agreed.
    """
    began = time.perf_counter()
    rows = list(source_batches)
    evolved: dict[str, pa.DataType] = {}
    while True:
        stage = BatchStage(source, table, evolved, None)
        stage.know_raw(tx)
        unit_load = UnitLoad(unit, tx.next_load_ids(1)[0], began=began, data_at=data_at)
        try:
            accepted = list(stage.batches(unit_load, rows))
            break
        except ShapeChangedError:
            continue
    target = stage.open()
    for change in tx.ensure_table(target):
        stage.changes[change] = None
    changed = stage.store(tx, accepted, cursor=table.cursor)[0] if unit_load.loaded else 0
    before = tx.watermark(table.name)
    status = "loaded" if changed or unit_load.refusals else "unchanged"
    after = position if position is not None else before
    marks = {"run_id": run_id, "watermark_before": before, "watermark_after": after, "is_new": bool(changed)}
    record(tx.connection, [unit_load.audit(source.name, table.name, status, **marks)])
    refusals = ((unit.name, refusal.line is not None, unit_load.load_id, refusal) for refusal in unit_load.refusals)
    quarantine.keep(tx.connection, source.name, table.name, table.contract, refusals, once=once)
    changes = stage.record_changes(tx, unit_load.load_id)
    if position is not None and position != before:
        tx.set_watermark(table.name, position, unit_load.load_id)
    return stage.result([unit_load], status, (before, after), time.perf_counter() - began, changes)
