"""Rows that arrive outside of units that can be read again: micro-batches, webhooks, changes, replayed rows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ingestion.intake import Intake, LoadResult, Piece, ShapeChangedError
from warehouse import quarantine
from warehouse.ledger import record

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from ingestion.spec import Chunk, Source, Table, Unit
    from warehouse.writer import LoadTransaction


def append(
    tx: LoadTransaction,
    source: Source,
    table: Table,
    unit: Unit,
    chunks: Iterable[Chunk],
    *,
    run_id: str = "",
    position: str | None = None,
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
        chunks: the rows.
        run_id: the run that this batch belongs to, for the ledger.
        position: where the source is read on after this batch, as text; it becomes the table's watermark.

    Raises:
        ContractBrokenError: the batch has another shape than agreed.
    """
    began = time.perf_counter()
    rows = list(chunks)
    evolved: dict[str, pa.DataType] = {}
    while True:
        intake = Intake(source, table, evolved, None)
        intake.know_raw(tx)
        piece = Piece(unit, tx.next_load_ids(1)[0], began=began)
        try:
            accepted = list(intake.batches(piece, rows))
            break
        except ShapeChangedError:
            continue
    target = intake.open()
    for change in tx.ensure_table(target):
        intake.changes[change] = None
    changed = intake.store(tx, accepted, cursor=table.cursor)[0] if piece.loaded else 0
    before = tx.watermark(table.name)
    status = "loaded" if changed or piece.refusals else "unchanged"
    after = position if position is not None else before
    marks = {"run_id": run_id, "watermark_before": before, "watermark_after": after}
    record(tx.connection, [piece.audit(source.name, table.name, status, **marks)])
    refusals = ((unit.name, refusal.line is not None, piece.load_id, refusal) for refusal in piece.refusals)
    quarantine.keep(tx.connection, source.name, table.name, table.contract, refusals)
    changes = intake.record_changes(tx, piece.load_id)
    if position is not None and position != before:
        tx.set_watermark(table.name, position, piece.load_id)
    return intake.result([piece], status, (before, after), time.perf_counter() - began, changes)
