"""One table load while it runs: units through the contract into the writer's transaction."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from dataclasses import replace
from datetime import date
from itertools import chain
from typing import TYPE_CHECKING, NoReturn

import psycopg

from granary.load import duplicates, reload
from granary.load.batch_stage import (
    UNKNOWN,
    BatchStage,
    LoadResult,
    Progress,
    ShapeChangedError,
    TooManyRefusedError,
    UnitLoad,
    newer,
    recognised,
    trusted,
)
from granary.load.captured import check_held
from granary.load.contract import ContractBrokenError
from granary.load.failures import NothingLandedError, RestartLoadError, nothing_landed, record_failed, too_few
from granary.load.newest import data_at
from granary.sources.spec import ConditionalReader, KeepsPosition, ReportsNotLoaded
from granary.sources.units import NotLoaded, StillWrittenError, Unit, UnreachableError, UnreadableError, order
from granary.warehouse import quarantine
from granary.warehouse.connection import connect
from granary.warehouse.errors import GranaryError
from granary.warehouse.ledger import forget_unreadable, landed, record, record_not_loaded
from granary.warehouse.prefetch import Prefetch
from granary.warehouse.records import LOAD_ID, Refusal
from granary.warehouse.words import plural
from granary.warehouse.writer import LoadTransaction

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    import pyarrow as pa

    from granary.load.failures import Findings
    from granary.sources.spec import Reader, Source, Table
    from granary.warehouse.raw_tables import Lost
    from granary.warehouse.records import Landed, Target
    from granary.warehouse.settings import Settings

Window = tuple[date, date]
"""First and last business date, both included."""
KEPT = ("waiting", "passed over", "duplicate")
"""Of what a load did not take, the outcomes that `ops.files_not_loaded` keeps: failures are in the ledger."""


class TableLoad:
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
        findings: Findings,
        *,
        rebuild: bool = False,
        neighbours: Sequence[Table] = (),
        accepted: Collection[str] = (),
        reader: Reader | None = None,
    ) -> None:
        self.settings, self.source, self.table, self.window = settings, source, table, window
        self.rebuild, self.run_id, self.findings = rebuild, run_id, findings
        full_refresh = (
            full_refresh and not source.is_captured
        )  # there is nothing to read: a snapshot copies such a table
        self.anew = full_refresh and not rebuild and window is None and table.disposition != "append"
        self.everything = full_refresh or rebuild
        self.lost: Lost | None = None
        self.warnings: list[str] = []
        self.stage = BatchStage(source, table, findings.evolved, progress)
        self.tables = [*source.tables, *neighbours]
        self.copies: dict[str, str] = {}
        self.first: dict[str, str] = {}
        self.reader = reader
        self.holding: set[str] = set()
        self.stage.by_unit = True
        self.accepted, self.place = accepted, self.stage.place
        self.in_order = False
        self.committing, self.started = False, time.perf_counter()

    def run(self, *, dry_run: bool) -> LoadResult:
        """Load what is new, or only read and check it; see `granary.load.api.load_table` for what it raises."""
        reader = self.reader = self.reader or self.source.reader(self.settings)
        with LoadTransaction(self.settings, self.source.name) as tx:
            if self.source.is_captured:
                check_held(tx.connection, self.source, self.table)
            if self.anew or self.rebuild:
                reload.check_none_archived(tx.connection, self.stage.target)
            self.lost = tx.lost(self.stage.target, by_load=self.table.disposition == "replace_unit")
            if self.lost:  # as if it had never been loaded, whatever the days that were asked for
                self.everything, self.window = True, None
            before = None if self.everything else trusted(self.table, tx.watermark(self.table.name))
            ledger = landed(tx.connection, self.source.name, self.table.name)
            known = {} if self.anew else ledger
            self.holding = {name for name, unit in ledger.items() if unit.holds}
            if isinstance(reader, ConditionalReader) and not self.everything:
                reader.use_fingerprints(
                    {name: max(unit.fingerprints) for name, unit in known.items() if unit.fingerprints}
                )
            if isinstance(reader, KeepsPosition):
                reader.whole = self.everything or dry_run
            units = self._units(tx, reader.units(self.table, before), known, ledger)
            if self.findings.failed and not units:
                raise nothing_landed(self.findings)
            unit_loads = [
                UnitLoad(
                    unit,
                    load_id,
                    unreadable=unit.problem or self.findings.unreadable.get(unit.name),
                    copy_of=self.copies.get(unit.name, ""),
                    unpacked=self.findings.unpacked.get(unit.fingerprint or ""),
                )
                for unit, load_id in zip(units, tx.next_load_ids(len(units)), strict=True)
            ]
            self.stage.planned = len(unit_loads)
            result = self._land(tx, reader, unit_loads, before, known)
            if dry_run:
                tx.connection.rollback()
            self.committing = not dry_run
        return result

    def _wanted(self, unit: Unit) -> bool:
        in_window = not self.window or unit.date is None or self.window[0] <= unit.date <= self.window[1]
        return in_window and unit.name not in self.findings.unfinished

    def _units(
        self, tx: LoadTransaction, offered: Sequence[Unit], known: dict[str, Landed], ledger: dict[str, Landed]
    ) -> list[Unit]:
        """Return the units to read, and note which have the content of another one.

        Where a later unit overwrites an earlier one's rows by key, it waits for one that failed.
        """
        findings = self.findings
        new: list[tuple[Unit, bool]] = []
        failed = ""
        for each in filter(self._wanted, offered):
            try:
                unit = None if each.name in findings.failed else self._new(tx, each, known)
            except UnreachableError as error:
                findings.failed[each.name] = UnitLoad(each, 0), error
            except StillWrittenError as error:
                findings.unfinished[each.name] = error.what
            else:
                if unit and failed and self.table.disposition == "merge":
                    findings.unfinished[each.name] = f"it waits for {failed}, which comes before it"
                elif unit:
                    new.append(unit)
            failed = each.name if each.name in findings.failed else failed
        if findings.failed and (self.anew or self.table.disposition == "replace"):
            raise nothing_landed(self.findings)
        if missing := sorted({*self.accepted} - {each.name for each in offered}):
            raise GranaryError(
                f"the source has no unit {missing[0]!r}", self.place, "name one that the load has reported"
            )
        self.in_order = self._is_overtaken(offered, [unit for unit, _ in new])
        if self.in_order or (self.table.disposition == "replace" and new):
            new = [(unit, False) for unit in self._whole(offered, {unit.name: unit for unit, _ in new}, known)]
        anew = self.anew or self.lost is not None
        accepted = {*findings.single, *self.accepted}
        units, self.copies, self.first = duplicates.resolve(
            self.table, new, ledger, findings, accepted=accepted, anew=anew
        )
        return units

    def _is_overtaken(self, offered: Sequence[Unit], new: Sequence[Unit]) -> bool:
        """Return whether rows of other files decide what stays of these: then all that hold rows are read in order.

        Of a key, the last file's row stays. So it is when an earlier file comes late; and a corrected one may not
        have a key any more that an earlier one has.
        """
        files = [unit.name for unit in new if unit.content and not unit.problem]
        if self.table.disposition != "merge" or self.everything or not files:
            return False
        first = min(files, key=order)
        others = [
            name for name in self.holding if name != first and (first in self.holding or order(name) > order(first))
        ]
        findings = self.findings
        left_out = {*findings.failed, *findings.unfinished, *findings.unreadable}
        there = {unit.name for unit in offered} - left_out
        if missing := sorted(self.holding - there, key=order) if others else []:
            self.warnings.append(
                f"{first} comes out of order, and files that have rows cannot be read again:"
                f" {reload.several(missing)}; of a key that both have, the row of {first} stays"
            )
        return not missing and (first in self.holding or bool(others))

    def _whole(self, offered: Sequence[Unit], new: dict[str, Unit], known: dict[str, Landed]) -> Iterator[Unit]:
        """Yield every unit that has rows: what a table that is replaced does not read, it would lose."""
        for each in offered if self.in_order else filter(self._wanted, offered):
            unit = known.get(each.name, UNKNOWN)
            if each.name in new or unit.holds:
                yield new.get(each.name) or replace(each, fingerprint=max(unit.holds & unit.fingerprints or unit.holds))

    def _new(self, tx: LoadTransaction, offered: Unit, known: dict[str, Landed]) -> tuple[Unit, bool] | None:
        """Return the unit, with its fingerprint, if it has to be read, and whether it was left out as a duplicate."""
        ledger = UNKNOWN if self.everything else known.get(offered.name, UNKNOWN)
        unit, mark = recognised(offered, ledger)
        if mark is None:
            return unit, False
        if unit.version not in ledger.versions:
            tx.see_version(self.table.name, unit.name, mark, unit.version)
        if ledger.unreadable and mark not in ledger.unreadable:  # delivered damaged, and back as it was loaded before
            forget_unreadable(tx.connection, self.source.name, self.table.name, unit.name)
            quarantine.close_unit(tx.connection, self.source.name, self.table.name, unit.name)
        return (unit, True) if mark in ledger.duplicate_marks else None

    def _land(
        self,
        tx: LoadTransaction,
        reader: Reader,
        unit_loads: list[UnitLoad],
        before: str | None,
        known: dict[str, Landed],
    ) -> LoadResult:
        stage = self.stage
        stage.know_raw(tx, rebuild=self.rebuild)
        with closing(Prefetch(self._rows(reader, unit_loads, before))) as stream:
            first = next(stream, None)
            target = stage.open()
            return self._write(tx, target, first, stream, unit_loads, before, known)

    def _write(
        self,
        tx: LoadTransaction,
        target: Target,
        first: pa.RecordBatch | None,
        stream: Iterator[pa.RecordBatch],
        unit_loads: list[UnitLoad],
        before: str | None,
        known: dict[str, Landed],
    ) -> LoadResult:
        table, stage = self.table, self.stage
        held = self._held(tx, target)
        if self.rebuild:
            reload.set_aside(tx, target)
        for change in tx.ensure_table(target, bulk=True):
            stage.changes[change] = None
        deleted = self._clear(tx, target, unit_loads, known, held)
        changed, counted = deleted, unit_loads
        if first is not None or self.in_order:
            whole = (
                not self.findings.failed and not self.findings.unfinished and not any(p.unreadable for p in unit_loads)
            )
            arriving = stream if first is None else chain([first], stream)
            of_units = self._is_new(unit_loads, known) if self.in_order else None
            stored, gone = stage.store(tx, arriving, complete=lambda: whole and self._is_all(), of_units=of_units)
            if of_units:
                counted = self._counted(tx, target, unit_loads, of_units)
            counted[0].deleted += gone
            changed += stored + gone
        if self.rebuild and table.disposition != "replace":
            read = [p.unit.name for p in unit_loads if p.lands and p.unit.name in known]
            offered = [old for name in read for old in known[name].load_ids]
            kept = reload.bring_back(tx, table, target, offered, self.place)
            changed += kept
            if kept:
                self.warnings.append(f"kept what the source does not offer any more: {plural(kept, 'row')}")
        self._guard(tx, target, unit_loads, held if self._loses() else 0)
        if changed:
            tx.update_statistics(target, changed)
        return self._record(tx, target, counted, known, before, changed)

    def _is_all(self) -> bool:
        """Return whether the rows that were read are all that the source has of the table; known when they are read."""
        replaced = isinstance(self.reader, KeepsPosition) and self.reader.replaces(self.table)
        if replaced and self.table.disposition == "append":
            todo = "declare that its rows are replaced (disposition) or merged"
            raise GranaryError("the source replaced the whole table, which is appended to", self.place, todo)
        return replaced or self.table.disposition == "replace"

    def _is_new(self, unit_loads: Sequence[UnitLoad], known: dict[str, Landed]) -> dict[str, bool]:
        """Return of each unit that was read whether it holds something else than before."""
        read = [unit_load.unit for unit_load in unit_loads if unit_load.lands]
        return {unit.name: unit.fingerprint not in known.get(unit.name, UNKNOWN).holds for unit in read}

    def _counted(
        self, tx: LoadTransaction, target: Target, unit_loads: list[UnitLoad], is_new: dict[str, bool]
    ) -> list[UnitLoad]:
        """Return those that the ledger counts: what is as before, and of which no row came into force, is no load."""
        mine = min(unit_load.load_id for unit_load in unit_loads)
        sql = f"select distinct {LOAD_ID} from {target.sql_name} where {LOAD_ID} >= $1"
        there = {row[0] for row in tx.query(sql, mine)}
        return [p for p in unit_loads if is_new.get(p.unit.name, True) or p.load_id in there]

    def _held(self, tx: LoadTransaction, target: Target) -> int:
        """Return the rows that the load may not lose too many of, or 0 if it takes none away."""
        if self.rebuild:
            return tx.rows(target)
        return tx.expected(target) if self._loses() or isinstance(self.reader, KeepsPosition) else 0

    def _loses(self) -> bool:
        """Return whether the load takes the place of all that was there."""
        return self.lost is not None or self.anew or self.rebuild or self._is_all()

    def _clear(
        self, tx: LoadTransaction, target: Target, unit_loads: list[UnitLoad], known: dict[str, Landed], held: int
    ) -> int:
        """Delete the rows that this load replaces, and return how many."""
        if self.rebuild or (self.anew and self.table.disposition != "replace"):
            if held and not self.rebuild:
                tx.truncate(target)
            if unit_loads:
                unit_loads[0].deleted = held
            return held
        # What an append without a key read again would be there twice.
        merged = self.table.disposition == "merge" and not self.in_order
        if merged or self.table.disposition == "replace_unit" or (self.lost and not self.table.key):
            for unit_load in unit_loads:
                if unit_load.lands and unit_load.unit.name in known:
                    unit_load.deleted = tx.delete_loads(target, known[unit_load.unit.name].load_ids)
        return sum(unit_load.deleted for unit_load in unit_loads)

    def _rows(self, reader: Reader, unit_loads: list[UnitLoad], before: str | None) -> Iterator[pa.RecordBatch]:
        """Yield checked rows of all units with their load columns."""
        repeated = False
        for unit_load in unit_loads:
            unit = unit_load.unit
            if unit_load.unreadable:
                payload = {"unit": unit.name, "bytes": unit.bytes, "fingerprint": unit.fingerprint}
                unit_load.refusals = [Refusal(0, "", unit_load.unreadable, payload)]
                continue
            if unit_load.copy_of:
                if any(other.unit.name == unit_load.copy_of and not other.loaded for other in unit_loads):
                    self.findings.single.add(unit.name)  # nothing lands twice where there is nothing
                    raise RestartLoadError
                continue
            try:
                yield from self.stage.batches(unit_load, reader.read(self.table, unit, before))
                repeated |= duplicates.found(self.table, reader, unit_load, self.findings, self.first)
            except ShapeChangedError as error:
                raise RestartLoadError from error
            except UnreadableError as error:
                if self.anew and unit.name in self.holding:
                    raise  # what it held before would be gone with nothing in its place
                self.findings.unreadable[unit.name] = error.what
                raise RestartLoadError from error
            except StillWrittenError as error:
                self.findings.unfinished[unit.name] = error.what
                raise RestartLoadError from error
            except (ContractBrokenError, TooManyRefusedError, UnreachableError) as error:
                self._fail([(unit_load, error)])
        if repeated:
            raise RestartLoadError

    def _fail(self, failed: list[tuple[UnitLoad, GranaryError]]) -> NoReturn:
        """Begin again without units that failed, so that the others land.

        Raises:
            GranaryError: nothing can land without them: the table is replaced, or the unit is all that is new.
        """
        self.findings.failed |= {unit_load.unit.name: (unit_load, error) for unit_load, error in failed}
        whole = self.anew or self.table.disposition == "replace"
        if whole or any(unit_load.unit.fingerprint is None for unit_load, _ in failed):
            raise failed[0][1]
        raise RestartLoadError

    def _guard(self, tx: LoadTransaction, target: Target, unit_loads: list[UnitLoad], held: int) -> None:
        """Refuse a load that would lose a table's rows, or that refuses too many."""
        read, loaded = sum(p.read for p in unit_loads), sum(p.loaded for p in unit_loads)
        refusals = [refusal for unit_load in unit_loads for refusal in unit_load.refusals if refusal.row]
        forgotten = sum(p.forgotten for p in unit_loads)
        if read != loaded + len(refusals) + forgotten:
            raise RuntimeError(
                f"{self.place}: {read} rows read, {loaded} loaded, {len(refusals)} refused, {forgotten} forgotten"
            )
        most = self.table.max_refused
        if len(refusals) > most * read:
            refused = [(unit_load, sum(refusal.row > 0 for refusal in unit_load.refusals)) for unit_load in unit_loads]
            self._fail(
                [
                    (unit_load, self.stage.refused(unit_load, f"{number:,} of {unit_load.read:,}"))
                    for unit_load, number in refused
                    if number > most * unit_load.read
                ]
            )
        if held:
            counted = self.lost or self.rebuild or self._is_all()
            left = tx.rows(target) if counted else loaded
            if left < max(1, self.table.floor * held):
                raise too_few(self.table, self.place, left, held, None if self.rebuild else self.lost)

    def _record(
        self,
        tx: LoadTransaction,
        target: Target,
        unit_loads: list[UnitLoad],
        known: dict[str, Landed],
        before: str | None,
        changed: int,
    ) -> LoadResult:
        """Write the ledger, the refused rows, the shape's changes and the watermark."""
        name = self.table.name
        looked = any(
            unit_load.refusals or (unit_load.unit.fingerprint and not unit_load.copy_of) for unit_load in unit_loads
        )
        status = "loaded" if changed or self.lost or looked else "unchanged"
        keeps = isinstance(self.reader, KeepsPosition)
        if isinstance(self.reader, KeepsPosition):
            after = self.reader.position(self.table)
        else:
            after = newer(self.table, before, self.stage.newest)
        noted = unit_loads or [UnitLoad(Unit(self.table.location), tx.next_load_ids(1)[0], began=self.started)]
        read = [unit_load for unit_load in unit_loads if unit_load.lands]
        if (self.anew and unit_loads) or (self.lost and not self.lost.present):
            tx.supersede_all(name, noted[0].load_id)
        tx.supersede({old: p.load_id for p in read if p.unit.name in known for old in known[p.unit.name].load_ids})
        marks = {
            "run_id": self.run_id,
            "watermark_before": before,
            "watermark_after": after,
            "is_new": bool(changed),
        }
        for unit_load in noted:
            unit_load.data_at = data_at(unit_load.unit, self.stage.newest)
        record(tx.connection, [unit_load.audit(self.source.name, name, status, **marks) for unit_load in noted])
        quarantine.keep(
            tx.connection,
            self.source.name,
            name,
            self.table.contract,
            (
                (p.unit.name, p.unit.fingerprint is not None, p.load_id, refusal)
                for p in unit_loads
                for refusal in p.refusals
            ),
        )
        quarantine.settle(
            tx.connection, target, (p.unit.name for p in read if p.unit.fingerprint), [p.load_id for p in read]
        )
        if self.lost:
            self._report_lost(tx, target, self.lost, known, {unit_load.unit.name for unit_load in read})
        changes = self.stage.record_changes(tx, noted[0].load_id)
        if (self.table.cursor or keeps) and after and after != before:
            tx.set_watermark(name, after, unit_loads[-1].load_id)
        record_failed(tx.connection, self.source, self.table, self.run_id, self.findings.failed.values())
        left = self._not_loaded()
        kept = [(one.unit, one.outcome, one.reason) for one in left if one.outcome in KEPT]
        record_not_loaded(tx.connection, self.source.name, name, noted[-1].load_id, kept)
        seconds = time.perf_counter() - self.started
        return self.stage.result(unit_loads, status, (before, after), seconds, changes, self.warnings, left)

    def _not_loaded(self) -> list[NotLoaded]:
        """Return what the source has and this load did not take, but for what is in quarantine."""
        left = self.findings.not_loaded()
        left += [NotLoaded(unit, "duplicate", f"it has the content of {other}") for unit, other in self.copies.items()]
        if isinstance(self.reader, ReportsNotLoaded):
            left += [one for one in self.reader.not_loaded(self.tables) if one.unit not in self.findings.unfinished]
        return left

    def _report_lost(
        self, tx: LoadTransaction, target: Target, lost: Lost, known: dict[str, Landed], read: set[str]
    ) -> None:
        """Have the ledger agree with the raw table again, and say what was lost and what of it came back."""
        gone = [name for name in known if name not in read]
        if lost.present:
            gone = reload.settle(tx, target) if self.table.disposition == "replace_unit" else []
        rows = tx.recount(target)
        self.warnings.append(
            f"{lost}: somebody dropped, renamed or emptied it, or deleted rows; the source was read from the beginning,"
            f" and {rows:,} rows are there now"
        )
        streamed = self.source.stream is not None and self.table.name in self.source.stream.topics
        if streamed and (self.table.key or not lost.present):
            tx.forget_position(self.table.name)
            self.warnings.append("its stream begins at the oldest message that the log or queue still has")
        if gone:
            self.warnings.append(f"lost, since the source does not offer them any more: {reload.several(gone)}")

    def record_failure(self, error: BaseException) -> None:
        """Keep the failure in the ledger, in a transaction of its own; the warehouse itself may be what failed."""
        failed: list[tuple[UnitLoad, BaseException]] = list(self.findings.failed.values())
        if not isinstance(error, NothingLandedError) and all(error is not known for _, known in failed):
            failed.append((UnitLoad(Unit(self.table.location), 0, began=self.started), error))
        with suppress(GranaryError, psycopg.Error, OSError), connect(self.settings, role="loader") as connection:
            record_failed(connection, self.source, self.table, self.run_id, failed)
            connection.commit()
