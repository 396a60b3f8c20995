"""One table load while it runs: units through the contract into the writer's transaction."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_manager import Error as DriverError

from ingestion.checks import ContractBrokenError, Shape, conform, shape
from ingestion.spec import Unit
from warehouse.connection import connect, query
from warehouse.errors import GranaryError
from warehouse.records import LOAD_COLUMNS, Audit, Refusal, Target
from warehouse.writer import LoadTransaction, record, schema_change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ingestion.spec import Reader, Source, Table
    from warehouse.settings import Settings

Window = tuple[date, date]
"""First and last business date, both included."""

SEND_ROWS = 1024
"""Rows that are encoded and sent at a time: about 60 kB, which a Unix socket takes in without waiting."""

KEPT_REFUSALS = 10_000
"""A load that refuses more rows than this has failed whatever its share: memory stays bounded."""


@dataclass(frozen=True)
class Progress:
    """How far a load has come: rows read so far, of the unit at hand."""

    source: str
    table: str
    unit: str
    rows: int


@dataclass(frozen=True)
class LoadResult:
    """What one table load did. `status` is "loaded", or "unchanged" when the source had nothing new."""

    source: str
    table: str
    status: str
    units: int
    rows_read: int
    rows_loaded: int
    rows_quarantined: int
    rows_deleted: int
    bytes: int
    seconds: float
    watermark_before: str | None
    watermark_after: str | None
    load_ids: tuple[int, ...]
    units_loaded: tuple[str, ...]


@dataclass
class _Piece:
    """One unit on its way: what its audit row will say."""

    unit: Unit
    load_id: int
    started: datetime
    read: int = 0
    loaded: int = 0
    bytes: int = 0
    seconds: float = 0.0
    deleted: int = 0
    refusals: list[Refusal] = field(default_factory=list)


class NewColumnError(Exception):
    """A unit has a column that the load did not know when it opened its COPY."""


class Loading:
    """One table load while it runs. `additions` are the columns beyond the contract; they outlive a new beginning."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        table: Table,
        window: Window | None,
        full_refresh: bool,
        run_id: str,
        progress: Callable[[Progress], None] | None,
        additions: dict[str, pa.Field],
    ) -> None:
        self.settings, self.source, self.table, self.window = settings, source, table, window
        self.full_refresh, self.run_id, self.progress = full_refresh, run_id, progress
        self.anew = full_refresh and window is None
        self.place = f"{source.name}.{table.name}"
        self.cause: BaseException | None = None
        self.started = time.perf_counter()
        self.started_at = datetime.now(timezone.utc)
        self.newest: datetime | None = None
        self.additions = additions
        self.opened = False

    def run(self, *, dry_run: bool) -> LoadResult:
        """Load what is new, or only read and check it; see `ingestion.load.load_table` for what it raises."""
        reader = self.source.reader(self.settings)
        with LoadTransaction(self.settings, self.source.name) as tx:
            before = None if self.full_refresh else tx.watermark(self.table.name)
            known = {} if self.anew else tx.landed(self.table.name)
            units = [
                unit
                for unit in reader.units(self.table, before)
                if self._in_window(unit) and (self.full_refresh or self._is_new(unit, known))
            ]
            pieces = [
                _Piece(unit, load_id, self.started_at)
                for unit, load_id in zip(units, tx.next_load_ids(len(units)), strict=True)
            ]
            result = self._land(tx, reader, pieces, before, known)
            if dry_run:
                tx.connection.rollback()
        return result

    def _is_new(self, unit: Unit, known: dict[str, tuple[str, int]]) -> bool:
        return unit.fingerprint is None or known.get(unit.name, ("",))[0] != unit.fingerprint

    def _in_window(self, unit: Unit) -> bool:
        return not self.window or unit.date is None or self.window[0] <= unit.date <= self.window[1]

    def _land(
        self,
        tx: LoadTransaction,
        reader: Reader,
        pieces: list[_Piece],
        before: str | None,
        known: dict[str, tuple[str, int]],
    ) -> LoadResult:
        table = self.table
        stream = self._rows(reader, pieces, before)
        first = next(stream, None)
        self.opened = True
        target = Target(self.source.name, table.name, pa.schema([*table.schema, *self.additions.values()]), table.key)
        for name in tx.ensure_table(target):
            if name in self.additions:
                tx.schema_change(table.name, pieces[0].load_id, name, "added", str(self.additions[name].type))
        replaces = table.disposition == "replace"
        held = tx.rows(target) if replaces or self.anew else 0
        emptied = tx.truncate(target) if self.anew and not replaces else 0
        for piece in pieces:
            if piece.unit.name in known:
                piece.deleted = tx.delete_load(target, known[piece.unit.name][1])
        if pieces:
            pieces[0].deleted += emptied
        changed = sum(piece.deleted for piece in pieces)
        if first is not None:
            schema = pa.schema([*target.schema, *LOAD_COLUMNS])
            batches = (part for batch in chain([first], stream) for part in _sliced(_align(batch, schema)))
            arriving = pa.RecordBatchReader.from_batches(schema, batches)
            if table.disposition == "replace_unit":
                tx.copy(target, arriving)
                changed += sum(piece.loaded for piece in pieces)
            else:
                merged, pieces[0].deleted = tx.merge(target, arriving, complete=replaces)
                changed += merged + pieces[0].deleted
        self._guard(tx, target, pieces, held)
        if changed:
            tx.digest(target)
        return self._record(tx, pieces, known, before, changed)

    def _rows(self, reader: Reader, pieces: list[_Piece], before: str | None) -> Iterator[pa.RecordBatch]:
        """Yield checked rows of all units with their load columns, counting as they pass."""
        try:
            for piece in pieces:
                began = time.perf_counter()
                where = f"{self.place}, {piece.unit.name}"
                shaped: tuple[pa.Schema, Shape] | None = None
                for chunk in reader.read(self.table, piece.unit, before):
                    if shaped is None or chunk.batch.schema != shaped[0]:
                        shaped = chunk.batch.schema, shape(self.table, chunk.batch.schema, where)
                        self._know(shaped[1])
                    accepted, places, refusals = conform(self.table, shaped[1], chunk, piece.read + 1, where)
                    self._count(piece, chunk.rows, accepted, refusals)
                    load_ids = pa.repeat(pa.scalar(piece.load_id, pa.int64()), accepted.num_rows)
                    yield pa.RecordBatch.from_arrays(
                        [*accepted.columns, load_ids, places], schema=pa.schema([*accepted.schema, *LOAD_COLUMNS])
                    )
                piece.seconds = time.perf_counter() - began
        except BaseException as error:
            # The driver passes it on through a C stream, which keeps only its text.
            self.cause = error
            raise

    def _know(self, shaped: Shape) -> None:
        """Remember the unit's columns that no contract names; too late for them once the COPY is open."""
        new = {field.name: field for field in shaped.added if field.name not in self.additions}
        self.additions.update(new)
        if new and self.opened:
            raise NewColumnError

    def _count(self, piece: _Piece, rows: int, accepted: pa.RecordBatch, refusals: list[Refusal]) -> None:
        piece.read += rows
        piece.loaded += accepted.num_rows
        piece.bytes += accepted.nbytes
        piece.refusals += refusals
        if len(piece.refusals) > KEPT_REFUSALS:
            raise self._refused(piece.refusals, f"over {KEPT_REFUSALS:,}")
        if self.table.cursor and accepted.num_rows:
            newest = pc.max(accepted.column(self.table.cursor)).as_py()
            if newest is not None:
                self.newest = max(self.newest or newest, newest)
        if self.progress:
            self.progress(Progress(self.source.name, self.table.name, piece.unit.name, piece.read))

    def _refused(self, refusals: list[Refusal], number: str) -> GranaryError:
        first = refusals[0]
        return GranaryError(
            f"{number} rows break the contract; row {first.row}: {first.column or 'it'} {first.reason}",
            self.place,
            "nothing of this load has landed; ask the source's owner",
        )

    def _guard(self, tx: LoadTransaction, target: Target, pieces: list[_Piece], held: int) -> None:
        """Refuse a load that would lose a table's rows, or that refuses too many."""
        read, loaded = sum(p.read for p in pieces), sum(p.loaded for p in pieces)
        refusals = [refusal for piece in pieces for refusal in piece.refusals]
        if read != loaded + len(refusals):
            raise RuntimeError(f"{self.place}: {read} rows read, {loaded} loaded, {len(refusals)} refused")
        if len(refusals) > self.table.max_refused * read:
            raise self._refused(refusals, f"{len(refusals):,} of {read:,}")
        if held and (left := tx.rows(target)) < max(1, self.table.floor * held):
            raise GranaryError(
                f"the source offers {left:,} rows, the table has {held:,}: below its floor of {self.table.floor:.0%}",
                self.place,
                "check the source; if it is right, lower the floor in the table's contract",
            )

    def _record(
        self,
        tx: LoadTransaction,
        pieces: list[_Piece],
        known: dict[str, tuple[str, int]],
        before: str | None,
        changed: int,
    ) -> LoadResult:
        """Write the ledger, the refused rows and the watermark."""
        name = self.table.name
        refused = sum(len(piece.refusals) for piece in pieces)
        status = "loaded" if changed or refused else "unchanged"
        after = self.newest.isoformat() if self.newest else before
        if self.anew and pieces:
            tx.supersede_all(name, pieces[0].load_id)
        tx.supersede({known[p.unit.name][1]: p.load_id for p in pieces if p.unit.name in known})
        noted = pieces or [_Piece(Unit(self.table.location), tx.next_load_ids(1)[0], self.started_at)]
        tx.record([self._audit(piece, status, before, after) for piece in noted])
        refusals = ((p.unit.name, p.load_id, refusal) for p in pieces for refusal in p.refusals)
        tx.quarantine(name, self.table.contract, refusals)
        if self.table.cursor and after and after != before:
            tx.set_watermark(name, after, pieces[-1].load_id)
        return LoadResult(
            source=self.source.name,
            table=name,
            status=status,
            units=len(pieces),
            rows_read=sum(piece.read for piece in pieces),
            rows_loaded=sum(piece.loaded for piece in pieces),
            rows_quarantined=refused,
            rows_deleted=sum(piece.deleted for piece in pieces),
            bytes=sum(piece.bytes for piece in pieces),
            seconds=time.perf_counter() - self.started,
            watermark_before=before,
            watermark_after=after,
            load_ids=tuple(piece.load_id for piece in pieces),
            units_loaded=tuple(piece.unit.name for piece in pieces),
        )

    def _audit(
        self, piece: _Piece, status: str, before: str | None, after: str | None, error: str | None = None
    ) -> Audit:
        return Audit(
            load_id=piece.load_id,
            run_id=self.run_id,
            source=self.source.name,
            table=self.table.name,
            unit=piece.unit.name,
            fingerprint=piece.unit.fingerprint,
            status=status,
            rows_read=piece.read,
            rows_loaded=piece.loaded,
            rows_quarantined=len(piece.refusals),
            rows_deleted=piece.deleted,
            bytes=piece.bytes,
            seconds=piece.seconds or time.perf_counter() - self.started,
            started_at=piece.started,
            watermark_before=before,
            watermark_after=after,
            error=error,
        )

    def record_failure(self, error: BaseException) -> None:
        """Keep the failure in the ledger, in a transaction of its own; the warehouse itself may be what failed."""
        words = str(error) or type(error).__name__
        with suppress(GranaryError, DriverError, OSError), connect(self.settings, role="loader") as connection:
            load_id = int(str(query(connection, "select nextval('ops.load_id')")[0][0]))
            piece = _Piece(Unit(self.table.location), load_id, self.started_at)
            record(connection, [self._audit(piece, "failed", None, None, words)])
            if isinstance(error, ContractBrokenError):
                schema_change(
                    connection, self.source.name, self.table.name, load_id, error.column, error.change, error.detail
                )
            connection.commit()


def _sliced(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield the batch in parts that fit into a socket's buffer.

    The driver encodes a batch and then sends it. While a large one drains, nothing is encoded, and the server idles
    while the next is: 20.9 M rows took 17.0 s in batches of 131,072 rows and 10.7 s in small ones, on two cores.
    """
    for start in range(0, batch.num_rows, SEND_ROWS):
        yield batch.slice(start, SEND_ROWS)


def _align(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the batch with exactly these columns; one that its unit does not have is null."""
    if batch.schema.names == schema.names:
        return batch
    return pa.RecordBatch.from_arrays(
        [batch.column(f.name) if f.name in batch.schema.names else pa.nulls(batch.num_rows, f.type) for f in schema],
        schema=schema,
    )
