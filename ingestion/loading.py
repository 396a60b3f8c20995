"""One table load while it runs: units through the contract into the writer's transaction."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import date
from itertools import chain
from typing import TYPE_CHECKING

import psycopg

from ingestion import again
from ingestion.ahead import ahead
from ingestion.cdc.lost import check_held
from ingestion.checks import ContractBrokenError
from ingestion.intake import UNKNOWN, Intake, LoadResult, Piece, Progress, ShapeChangedError, newer, recognised
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
    from warehouse.raw_tables import Lost
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
        *,
        rebuild: bool = False,
    ) -> None:
        self.settings, self.source, self.table, self.window = settings, source, table, window
        self.rebuild, self.run_id, self.learnt = rebuild, run_id, learnt
        self.anew = full_refresh and not rebuild and window is None and table.disposition != "append"
        self.everything = full_refresh or rebuild
        self.lost: Lost | None = None
        self.warnings: list[str] = []
        self.intake = Intake(source, table, learnt.evolved, progress)
        self.place = self.intake.place
        self.committing = False
        self.started = time.perf_counter()

    def run(self, *, dry_run: bool) -> LoadResult:
        """Load what is new, or only read and check it; see `ingestion.load.load_table` for what it raises."""
        reader = self.source.reader(self.settings)
        with LoadTransaction(self.settings, self.source.name) as tx:
            if self.source.capture:
                check_held(tx.connection, self.source, self.table)
            self.lost = tx.lost(self.intake.target, by_load=self.table.disposition == "replace_unit")
            if self.lost:  # as if it had never been loaded, whatever the days that were asked for
                self.everything, self.window = True, None
            before = None if self.everything else tx.watermark(self.table.name)
            known = {} if self.anew else landed(tx.connection, self.source.name, self.table.name)
            if isinstance(reader, Recalling) and not self.everything:
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
        ledger = UNKNOWN if self.everything else known.get(offered.name, UNKNOWN)
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
        intake.know_raw(tx, rebuild=self.rebuild)
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
        held = self._held(tx, target)
        if self.rebuild:
            again.set_aside(tx, target)
        for change in tx.ensure_table(target, bulk=True):
            intake.changes[change] = None
        deleted = self._clear(tx, target, pieces, known, held)
        changed = deleted
        if first is not None:
            stored, gone = intake.store(tx, chain([first], stream), complete=table.disposition == "replace")
            pieces[0].deleted += gone
            changed += stored + gone
        if self.rebuild and table.disposition != "replace":
            read = [p.unit.name for p in pieces if not p.unreadable and p.unit.name in known]
            offered = [old for name in read for old in known[name].load_ids]
            kept = again.bring_back(tx, table, target, offered, self.place)
            changed += kept
            if kept:
                self.warnings.append(f"{kept:,} rows that the source does not offer any more were kept")
        self._guard(tx, target, pieces, held)
        if changed:
            tx.digest(target, changed)
        return self._record(tx, target, pieces, known, before, changed)

    def _held(self, tx: LoadTransaction, target: Target) -> int:
        """Return the rows that the load may not lose too many of, or 0 if it takes none away."""
        if self.rebuild:
            return tx.rows(target)
        return tx.expected(target) if self.lost or self.anew or self.table.disposition == "replace" else 0

    def _clear(
        self, tx: LoadTransaction, target: Target, pieces: list[Piece], known: dict[str, Landed], held: int
    ) -> int:
        """Delete the rows that this load replaces, and return how many."""
        if self.rebuild or (self.anew and self.table.disposition != "replace"):
            if held and not self.rebuild:
                tx.truncate(target)
            if pieces:
                pieces[0].deleted = held
            return held
        # What an append without a key read again would be there twice.
        if self.table.disposition in ("replace_unit", "merge") or (self.lost and not self.table.key):
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
            counted = self.lost or self.rebuild or self.table.disposition == "replace"
            left = tx.rows(target) if counted else loaded
            if self.lost and not self.rebuild and left < max(1, self.table.floor * held):
                raise GranaryError(
                    f"{self.lost}; the source offers what makes {left:,}, below the floor of {self.table.floor:.0%}",
                    self.place,
                    "put the rows back from a backup, or take what the source has:"
                    f" `granary load {self.place} --rebuild`",
                )
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
        news = changed or self.lost or any(piece.refusals or piece.unit.fingerprint for piece in pieces)
        status = "loaded" if news else "unchanged"
        after = newer(self.table, before, self.intake.newest)
        noted = pieces or [Piece(Unit(self.table.location), tx.next_load_ids(1)[0], began=self.started)]
        read = [piece for piece in pieces if not piece.unreadable]
        if (self.anew and pieces) or (self.lost and not self.lost.present):
            tx.supersede_all(name, noted[0].load_id)
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
        if self.lost:
            self._tell_lost(tx, target, self.lost, known, {piece.unit.name for piece in read})
        changes = self.intake.record_changes(tx, noted[0].load_id)
        if self.table.cursor and after and after != before:
            tx.set_watermark(name, after, pieces[-1].load_id)
        return self.intake.result(
            pieces, status, (before, after), time.perf_counter() - self.started, changes, self.warnings
        )

    def _tell_lost(
        self, tx: LoadTransaction, target: Target, lost: Lost, known: dict[str, Landed], read: set[str]
    ) -> None:
        """Have the ledger agree with the raw table again, and say what was lost and what of it came back."""
        gone = [name for name in known if name not in read]
        if lost.present:
            gone = again.settle(tx, target) if self.table.disposition == "replace_unit" else []
        rows = tx.recount(target)
        self.warnings.append(
            f"{lost}: somebody dropped, renamed or emptied it, or deleted rows; the source was read from the beginning,"
            f" and {rows:,} rows are there now"
        )
        streamed = self.source.stream is not None and self.table.name in self.source.stream.topics
        if streamed and (self.table.key or not lost.present):
            tx.execute("delete from ops.watermarks where source = $1 and table_name = $2", tx.source, self.table.name)
            self.warnings.append("its stream begins at the oldest message that the log still has")
        if gone:
            self.warnings.append(f"lost, since the source does not offer them any more: {again.several(gone)}")

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
