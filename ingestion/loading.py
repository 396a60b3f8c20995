"""One table load while it runs: units through the contract into the writer's transaction."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import date
from itertools import chain
from typing import TYPE_CHECKING

import psycopg

from ingestion.ahead import ahead
from ingestion.checks import ContractBrokenError
from ingestion.intake import (
    UNKNOWN,
    Intake,
    LoadResult,
    Piece,
    Progress,
    ShapeChangedError,
    newer,
    recognised,
    trusted,
)
from ingestion.spec import Recalling, StillWrittenError, Unit, UnreadableError
from warehouse import quarantine
from warehouse.connection import connect, query
from warehouse.errors import GranaryError
from warehouse.ledger import forget_unreadable, landed, record, record_changes
from warehouse.records import Refusal
from warehouse.writer import LoadTransaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pyarrow as pa

    from ingestion.spec import Reader, Source, Table
    from warehouse.records import Landed, Target
    from warehouse.settings import Settings

Window = tuple[date, date]
"""First and last business date, both included."""


class BeginAgainError(Exception):
    """The load has learnt something that it should have known when it opened its COPY."""


@dataclass
class Learnt:
    """What a load finds out on its way and needs to know from the start: it outlives a new beginning."""

    evolved: dict[str, pa.DataType] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    unfinished: set[str] = field(default_factory=set)


class Loading:
    """One table load while it runs."""

    def __init__(
        self,
        settings: Settings,
        source: Source,
        table: Table,
        window: Window | None,
        full_refresh: bool,
        run_id: str,
        progress: Callable[[Progress], None] | None,
        learnt: Learnt,
    ) -> None:
        self.settings, self.source, self.table, self.window = settings, source, table, window
        self.full_refresh, self.run_id, self.learnt = full_refresh, run_id, learnt
        self.anew = full_refresh and window is None and table.disposition != "append"
        self.intake = Intake(source, table, learnt.evolved, progress)
        self.intake.by_unit = True
        self.place = self.intake.place
        self.committing = False
        self.started = time.perf_counter()

    def run(self, *, dry_run: bool) -> LoadResult:
        """Load what is new, or only read and check it; see `ingestion.load.load_table` for what it raises."""
        reader = self.source.reader(self.settings)
        with LoadTransaction(self.settings, self.source.name) as tx:
            before = None if self.full_refresh else trusted(self.table, tx.watermark(self.table.name))
            known = {} if self.anew else landed(tx.connection, self.source.name, self.table.name)
            if isinstance(reader, Recalling) and not self.full_refresh:
                reader.recall({name: max(unit.fingerprints) for name, unit in known.items() if unit.fingerprints})
            units = [
                unit
                for offered in reader.units(self.table, before)
                if self._wanted(offered) and (unit := self._new(tx, offered, known)) is not None
            ]
            pieces = [
                Piece(unit, load_id, unreadable=self.learnt.unreadable.get(unit.name))
                for unit, load_id in zip(units, tx.next_load_ids(len(units)), strict=True)
            ]
            result = self._land(tx, reader, pieces, before, known)
            if dry_run:
                tx.connection.rollback()
            self.committing = not dry_run
        return result

    def _wanted(self, unit: Unit) -> bool:
        in_window = not self.window or unit.date is None or self.window[0] <= unit.date <= self.window[1]
        return in_window and unit.name not in self.learnt.unfinished

    def _new(self, tx: LoadTransaction, offered: Unit, known: dict[str, Landed]) -> Unit | None:
        """Return the unit, with its fingerprint, if it has to be read."""
        ledger = UNKNOWN if self.full_refresh else known.get(offered.name, UNKNOWN)
        unit, mark = recognised(offered, ledger)
        if mark is None:
            return unit
        if unit.version not in ledger.versions:
            tx.see_version(self.table.name, unit.name, mark, unit.version)
        if ledger.unreadable and mark not in ledger.unreadable:  # delivered damaged, and back as it was loaded before
            forget_unreadable(tx.connection, self.source.name, self.table.name, unit.name)
            quarantine.close_unit(tx.connection, self.source.name, self.table.name, unit.name)
        return None

    def _land(
        self, tx: LoadTransaction, reader: Reader, pieces: list[Piece], before: str | None, known: dict[str, Landed]
    ) -> LoadResult:
        intake = self.intake
        intake.know_raw(tx)
        with closing(ahead(self._rows(reader, pieces, before))) as stream:
            first = next(stream, None)
            target = intake.open()
            return self._write(tx, target, first, stream, pieces, before, known)

    def _write(
        self,
        tx: LoadTransaction,
        target: Target,
        first: pa.RecordBatch | None,
        stream: Iterator[pa.RecordBatch],
        pieces: list[Piece],
        before: str | None,
        known: dict[str, Landed],
    ) -> LoadResult:
        table, intake = self.table, self.intake
        for change in tx.ensure_table(target, bulk=True):
            intake.changes[change] = None
        held = tx.held(target, count=table.disposition != "replace_unit") if self._shrinks() else 0
        deleted = self._clear(tx, target, pieces, known, held)
        changed = deleted
        if first is not None:
            stored, gone = intake.store(tx, chain([first], stream), complete=table.disposition == "replace")
            pieces[0].deleted += gone
            changed += stored + gone
        self._guard(tx, target, pieces, held)
        if changed:
            tx.digest(target, changed)
        return self._record(tx, target, pieces, known, before, changed)

    def _shrinks(self) -> bool:
        return self.anew or self.table.disposition == "replace"

    def _clear(
        self, tx: LoadTransaction, target: Target, pieces: list[Piece], known: dict[str, Landed], held: int
    ) -> int:
        """Delete the rows that this load replaces, and return how many."""
        if self.anew and self.table.disposition != "replace":
            if held:
                tx.truncate(target)
            if pieces:
                pieces[0].deleted = held
            return held
        if self.table.disposition in ("replace_unit", "merge"):
            for piece in pieces:
                if not piece.unreadable and piece.unit.name in known:
                    piece.deleted = tx.delete_loads(target, known[piece.unit.name].load_ids)
        return sum(piece.deleted for piece in pieces)

    def _rows(self, reader: Reader, pieces: list[Piece], before: str | None) -> Iterator[pa.RecordBatch]:
        """Yield checked rows of all units with their load columns."""
        for piece in pieces:
            unit = piece.unit
            if piece.unreadable:
                payload = {"unit": unit.name, "bytes": unit.bytes, "fingerprint": unit.fingerprint}
                piece.refusals = [Refusal(0, "", piece.unreadable, payload)]
                continue
            try:
                yield from self.intake.batches(piece, reader.read(self.table, unit, before))
            except ShapeChangedError as error:
                raise BeginAgainError from error
            except UnreadableError as error:
                self.learnt.unreadable[unit.name] = error.what
                raise BeginAgainError from error
            except StillWrittenError as error:
                self.learnt.unfinished.add(unit.name)
                raise BeginAgainError from error

    def _guard(self, tx: LoadTransaction, target: Target, pieces: list[Piece], held: int) -> None:
        """Refuse a load that would lose a table's rows, or that refuses too many."""
        read, loaded = sum(p.read for p in pieces), sum(p.loaded for p in pieces)
        refusals = [refusal for piece in pieces for refusal in piece.refusals if refusal.row]
        forgotten = sum(p.forgotten for p in pieces)
        if read != loaded + len(refusals) + forgotten:
            raise RuntimeError(
                f"{self.place}: {read} rows read, {loaded} loaded, {len(refusals)} refused, {forgotten} forgotten"
            )
        if len(refusals) > self.table.max_refused * read:
            raise self.intake.refused(refusals, f"{len(refusals):,} of {read:,}")
        if held:
            left = tx.rows(target) if self.table.disposition == "replace" else loaded
            if left < max(1, self.table.floor * held):
                raise GranaryError(
                    f"the source offers {left:,} rows, the table has {held:,}:"
                    f" below its floor of {self.table.floor:.0%}",
                    self.place,
                    "check the source; if it is right, lower the floor in the table's contract",
                )

    def _record(
        self,
        tx: LoadTransaction,
        target: Target,
        pieces: list[Piece],
        known: dict[str, Landed],
        before: str | None,
        changed: int,
    ) -> LoadResult:
        """Write the ledger, the refused rows, the shape's changes and the watermark."""
        name = self.table.name
        news = changed or any(piece.refusals or piece.unit.fingerprint for piece in pieces)
        status = "loaded" if news else "unchanged"
        after = newer(self.table, before, self.intake.newest)
        noted = pieces or [Piece(Unit(self.table.location), tx.next_load_ids(1)[0], began=self.started)]
        read = [piece for piece in pieces if not piece.unreadable]
        if self.anew and pieces:
            tx.supersede_all(name, pieces[0].load_id)
        tx.supersede({old: p.load_id for p in read if p.unit.name in known for old in known[p.unit.name].load_ids})
        marks = {"run_id": self.run_id, "watermark_before": before, "watermark_after": after}
        record(tx.connection, [piece.audit(self.source.name, name, status, **marks) for piece in noted])
        quarantine.keep(
            tx.connection,
            self.source.name,
            name,
            self.table.contract,
            (
                (p.unit.name, p.unit.fingerprint is not None, p.load_id, refusal)
                for p in pieces
                for refusal in p.refusals
            ),
        )
        quarantine.settle(
            tx.connection, target, (p.unit.name for p in read if p.unit.fingerprint), [p.load_id for p in read]
        )
        changes = self.intake.record_changes(tx, noted[0].load_id)
        if self.table.cursor and after and after != before:
            tx.set_watermark(name, after, pieces[-1].load_id)
        return self.intake.result(pieces, status, (before, after), time.perf_counter() - self.started, changes)

    def record_failure(self, error: BaseException) -> None:
        """Keep the failure in the ledger, in a transaction of its own; the warehouse itself may be what failed."""
        words = str(error) or type(error).__name__
        with suppress(GranaryError, psycopg.Error, OSError), connect(self.settings, role="loader") as connection:
            load_id = int(str(query(connection, "select nextval('ops.load_id')")[0][0]))
            piece = Piece(Unit(self.table.location), load_id, began=self.started)
            record(
                connection,
                [piece.audit(self.source.name, self.table.name, "failed", run_id=self.run_id, error=words)],
            )
            if isinstance(error, ContractBrokenError):
                record_changes(connection, self.source.name, self.table.name, load_id, [error.change])
            connection.commit()
