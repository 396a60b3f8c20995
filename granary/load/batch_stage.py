"""Batches on their way into the warehouse: through the contract, counted, with their load columns."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timezone
from itertools import chain, islice
from threading import Lock
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from granary.load.contract import conform, cut_off, in_future, shape, within_cap
from granary.load.refusals import refusal_text
from granary.load.types import widens
from granary.privacy.filter import RowFilter
from granary.privacy.suppression_list import suppressed
from granary.sources.units import NotLoaded
from granary.warehouse.errors import GranaryError
from granary.warehouse.faults import fault_point
from granary.warehouse.ledger import record_changes
from granary.warehouse.records import LOAD_COLUMNS, Audit, Change, Landed, Refusal, Target, arrow_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from granary.sources.spec import Source, Table
    from granary.sources.units import SourceBatch, Unit
    from granary.warehouse.writer import LoadTransaction

SHOWN_REFUSALS = 3
"""Refused rows of a load that are printed at once; `granary quarantine list` has all."""
ADDED = ("units", "rows_read", "rows_loaded", "rows_quarantined", "rows_deleted", "rows_forgotten", "bytes", "seconds")
KEPT_REFUSALS = 10_000
"""A load that refuses more rows than this has failed whatever its share: memory stays bounded."""


UNKNOWN = Landed(frozenset(), frozenset(), ())
"""What the ledger knows of a unit that it has never seen."""


@dataclass(frozen=True)
class Progress:
    """How far a load has come: rows read so far, of the unit at hand, which is that number of so many."""

    source: str
    table: str
    unit: str
    rows: int
    number: int = 1
    units: int = 1

    def __str__(self) -> str:
        """Name the unit, and where it stands among several."""
        return f"{self.number:,} of {self.units:,}: {self.unit}" if self.units > 1 else self.unit


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
    units_unreadable: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    rows_forgotten: int = 0
    warnings: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    """The first of the rows that were refused: where they are, and why."""
    not_loaded: tuple[NotLoaded, ...] = ()

    @property
    def failed(self) -> tuple[NotLoaded, ...]:
        """The units for which the load failed, though others landed."""
        return tuple(one for one in self.not_loaded if one.outcome == "failed")


@dataclass
class UnitLoad:
    """One unit on its way: what its audit row will say."""

    unit: Unit
    load_id: int
    started: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    began: float = field(default_factory=time.perf_counter)
    read: int = 0
    loaded: int = 0
    bytes: int = 0
    seconds: float | None = None
    deleted: int = 0
    forgotten: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    unreadable: str | None = None
    copy_of: str = ""
    unpacked: str | None = None
    data_at: datetime | None = None

    def audit(self, source: str, table: str, status: str, **more: Any) -> Audit:
        """Return the unit's row of the ledger."""
        seconds = time.perf_counter() - self.began if self.seconds is None else self.seconds
        return Audit(
            load_id=self.load_id,
            source=source,
            table=table,
            unit=self.unit.name,
            fingerprint=self.unit.fingerprint,
            version=self.unit.version,
            unpacked=self.unpacked,
            status="unreadable" if self.unreadable else "duplicate" if self.copy_of else status,
            rows_read=self.read,
            rows_loaded=self.loaded,
            rows_quarantined=sum(refusal.row > 0 for refusal in self.refusals),
            rows_forgotten=self.forgotten,
            rows_deleted=self.deleted,
            bytes=self.bytes,
            seconds=seconds,
            started_at=self.started,
            data_at=self.data_at,
            **{"error": self.unreadable or (self.copy_of and f"it has the content of {self.copy_of}") or None} | more,
        )

    @property
    def lands(self) -> bool:
        """Whether its rows take the place of earlier ones."""
        return not self.unreadable and not self.copy_of


class TooManyRefusedError(GranaryError):
    """More of a unit's rows break the contract than a load may refuse."""


class ShapeChangedError(Exception):
    """A unit has a column, or a wider type, that the load did not know when it opened its COPY."""


class BatchStage:
    """The way of one table's batches into one load.

    `evolved` are the types of raw columns beyond the contract, or wider than it; they outlive a new beginning.
    """

    def __init__(
        self,
        source: Source,
        table: Table,
        evolved: dict[str, pa.DataType],
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self.source, self.table, self.evolved, self.progress = source, table, evolved, progress
        self.agreed = {column.name: column.type for column in table.columns}
        self.raw: dict[str, pa.DataType] = {}
        self.fresh = False
        self.planned = 1
        """Units that this load is about, and below the numbers of those that it has begun to read."""
        self.begun: dict[str, int] = {}
        self.by_unit = False
        """Whether a unit can be refused whole, and be read again later."""
        self.place = f"{source.name}.{table.name}"
        self.changes: dict[Change, None] = {}
        self.newest: Any = None
        self.accepted = 0
        self.opened: Target | None = None
        self.filter: RowFilter | None = None
        self.lock = Lock()

    def know_raw(self, tx: LoadTransaction, *, rebuild: bool = False) -> None:
        """Learn the raw table's types, in which rows are sent (of new and of widened columns), and who is forgotten.

        In a rebuild the contract's columns get the contract's types, whatever they were widened to.
        """
        if forgotten := suppressed(tx.connection, tx.settings):
            self.filter = RowFilter(self.table, forgotten)
        names = {field.name for field in LOAD_COLUMNS}
        present = {name: arrow_type(kind) for name, kind in tx.columns(self.target).items() if name not in names}
        self.fresh = not tx.query(
            "select 1 from ops.load_audit where source = $1 and table_name = $2 and status <> 'failed' limit 1",
            self.source.name,
            self.table.name,
        )
        self.raw = {name: kind for name, kind in present.items() if name not in self.agreed}
        for name, kind in present.items():
            if name in self.agreed and not rebuild and widens(self.agreed[name], kind):
                self.evolved.setdefault(name, kind)

    @property
    def target(self) -> Target:
        """The raw table as this load needs it: the contract's columns, wider where they are, and the new ones."""
        types = self.agreed | self.evolved
        return Target(self.source.name, self.table.name, pa.schema(list(types.items())), self.table.key)

    def batches(self, unit_load: UnitLoad, source_batches: Iterable[SourceBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the accepted rows of a unit with their load columns, counting as they pass.

        Raises:
            ContractBrokenError: a batch has another shape than agreed.
            ShapeChangedError: it has a new shape, which is now known; begin again.
            GranaryError: it refuses more rows than a load may.
        """
        where = f"{self.place}, {unit_load.unit.name}"
        shaped = delivered = None
        for delivered_batch in source_batches:
            fault_point("extracted")
            known = (self.raw | self.evolved).keys() - self.agreed.keys()
            source_batch = within_cap(self.table, delivered_batch, known, whole=self.by_unit, where=where)
            if shaped is None or delivered is None or not source_batch.batch.schema.equals(delivered):
                delivered = source_batch.batch.schema
                shaped = shape(self.table, delivered, where, self.raw | self.evolved, text=source_batch.text)
                self.changes |= dict.fromkeys(shaped.changes)
                self._know(shaped.fields)
            self.changes |= dict.fromkeys([*source_batch.notes, *cut_off(shaped, source_batch.batch)])
            accepted, places, refusals = conform(self.table, shaped, source_batch, unit_load.read + 1)
            self._see_newest(accepted)
            if self.filter:
                accepted, places, refusals, gone = self.filter.apply(accepted, places, refusals)
                unit_load.forgotten += gone
            self._count(unit_load, source_batch.rows, accepted, refusals)
            load = pa.repeat(pa.scalar(unit_load.load_id, pa.int64()), accepted.num_rows)
            yield pa.RecordBatch.from_arrays(
                [*accepted.columns, load, places], schema=pa.schema([*shaped.fields, *LOAD_COLUMNS])
            )
        unit_load.seconds = time.perf_counter() - unit_load.began

    def _know(self, fields: Iterable[pa.Field]) -> None:
        """Remember columns beyond the contract or wider than it; too late for them once the COPY is open."""
        with self.lock:
            known = self.agreed | self.evolved
            new = {field.name: field.type for field in fields if known.get(field.name) != field.type}
            self.evolved.update(new)
            if new and self.opened:
                raise ShapeChangedError

    def open(self) -> Target:
        """Return the raw table as it is to be for this load; from now on a new shape is too late.

        Batches are made in another thread, so what is known and what the COPY was opened with must agree.
        """
        with self.lock:
            self.opened = self.target
            return self.opened

    def _count(self, unit_load: UnitLoad, rows: int, accepted: pa.RecordBatch, refusals: list[Refusal]) -> None:
        unit_load.read += rows
        unit_load.loaded += accepted.num_rows
        self.accepted += accepted.num_rows
        unit_load.bytes += accepted.nbytes
        unit_load.refusals += refusals
        if len(unit_load.refusals) > KEPT_REFUSALS:
            raise self.refused(unit_load, f"over {KEPT_REFUSALS:,}")
        if self.progress:
            name = unit_load.unit.name
            number = self.begun.setdefault(name, len(self.begun) + 1)
            self.progress(Progress(self.source.name, self.table.name, name, unit_load.read, number, self.planned))

    def _see_newest(self, accepted: pa.RecordBatch) -> None:
        """Note how far the cursor has come; rows of those who are forgotten count, or they would be read for ever."""
        if self.table.cursor and accepted.num_rows:
            newest = pc.max(accepted.column(self.table.cursor)).as_py()
            if newest is not None:
                self.newest = max(self.newest or newest, newest)

    def record_changes(self, tx: LoadTransaction, load_id: int) -> tuple[Change, ...]:
        """Keep how the delivery differed from the contract, and return what is a change.

        Which of its names a column has in the first delivery is kept, for the next to be compared with, and no change.
        """
        new = record_changes(tx.connection, self.source.name, self.table.name, load_id, self.changes)
        return tuple(change for change in new if not (self.fresh and change.change == "renamed"))

    def refused(self, unit_load: UnitLoad, number: str) -> TooManyRefusedError:
        """Return the error of a unit of which too many rows are refused."""
        first = unit_load.refusals[0]
        line = "" if first.line is None else f" (line {first.line})"
        return TooManyRefusedError(
            f"{number} rows break the contract; row {first.row}{line}: {refusal_text(self.table, first)}",
            f"{self.place}, {unit_load.unit.name}",
            "nothing of it has landed; `granary quarantine list --status failed` has the rows, ask the source's owner",
        )

    def store(
        self,
        tx: LoadTransaction,
        batches: Iterable[pa.RecordBatch],
        *,
        complete: Callable[[], bool] = bool,
        cursor: str | None = None,
        of_units: Mapping[str, bool] | None = None,
    ) -> tuple[int, int]:
        """Bring accepted rows into the raw table, as its disposition says; what else it takes as in `merge`.

        Returns:
            Rows inserted or changed, and rows deleted.
        """
        assert self.opened, "the target is not open"
        schema = pa.schema([*self.opened.schema, *LOAD_COLUMNS])
        arriving = (_align(batch, schema) for batch in batches)
        if self.table.disposition in ("merge", "replace"):
            return tx.merge(self.opened, arriving, complete=complete, cursor=cursor, of_units=of_units)
        if self.table.disposition == "append" and self.table.key:
            added = tx.add(self.opened, arriving)
            complete()  # a source that replaced what is appended to is refused there
            return added, 0
        return tx.copy(self.opened, arriving), 0

    def _first_refused(self, unit_loads: Iterable[UnitLoad]) -> Iterator[str]:
        for unit_load in unit_loads:
            for refusal in unit_load.refusals:
                if refusal.row:
                    place = f"row {refusal.row}" if refusal.line is None else f"line {refusal.line}"
                    yield f"{unit_load.unit.name}, {place}: {refusal_text(self.table, refusal)}"

    def result(
        self,
        unit_loads: Sequence[UnitLoad],
        status: str,
        watermarks: tuple[str | None, str | None],
        seconds: float,
        changes: tuple[Change, ...],
        warnings: Sequence[str] = (),
        not_loaded: Iterable[NotLoaded] = (),
    ) -> LoadResult:
        """Return what became of these units, and of what is `not_loaded`; `watermarks`: before and after."""
        unreadable = tuple(NotLoaded(p.unit.name, "unreadable", p.unreadable) for p in unit_loads if p.unreadable)
        return LoadResult(
            source=self.source.name,
            table=self.table.name,
            status=status,
            units=sum(not unit_load.copy_of for unit_load in unit_loads),
            rows_read=sum(unit_load.read for unit_load in unit_loads),
            rows_loaded=sum(unit_load.loaded for unit_load in unit_loads),
            rows_quarantined=sum(1 for unit_load in unit_loads for refusal in unit_load.refusals if refusal.row),
            rows_deleted=sum(unit_load.deleted for unit_load in unit_loads),
            bytes=sum(unit_load.bytes for unit_load in unit_loads),
            seconds=seconds,
            watermark_before=watermarks[0],
            watermark_after=watermarks[1],
            load_ids=tuple(unit_load.load_id for unit_load in unit_loads),
            units_loaded=tuple(unit_load.unit.name for unit_load in unit_loads if unit_load.lands),
            units_unreadable=tuple(one.unit for one in unreadable),
            changes=changes,
            rows_forgotten=sum(unit_load.forgotten for unit_load in unit_loads),
            warnings=tuple(warnings),
            refused=tuple(islice(self._first_refused(unit_loads), SHOWN_REFUSALS)),
            not_loaded=(*unreadable, *not_loaded),
        )


def together(results: Sequence[LoadResult]) -> LoadResult:
    """Return what several loads of a table did, one after the other, as one."""
    first, last = results[0], results[-1]
    if first is last:
        return first
    every: dict[str, Any] = {name: [getattr(one, name) for one in results] for name in vars(first)}
    joined = [name for name, values in every.items() if isinstance(values[0], tuple)]
    found: dict[str, Any] = {name: sum(every[name]) for name in ADDED}
    found |= {name: tuple(dict.fromkeys(chain.from_iterable(every[name]))) for name in joined}
    found["refused"] = found["refused"][:SHOWN_REFUSALS]
    status = "loaded" if "loaded" in every["status"] else last.status
    return replace(last, status=status, watermark_before=first.watermark_before, **found)


def _align(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Return the batch with exactly these columns; one that its unit does not have is null."""
    if batch.schema.equals(schema):
        return batch
    return pa.RecordBatch.from_arrays(
        [
            batch.column(f.name).cast(f.type) if f.name in batch.schema.names else pa.nulls(batch.num_rows, f.type)
            for f in schema
        ],
        schema=schema,
    )


def recognised(unit: Unit, ledger: Landed) -> tuple[Unit, str | None]:
    """Ask the ledger for a unit's version before its content.

    Returns:
        The unit, with its fingerprint where that had to be found out, and the mark (version or fingerprint) by which
        the ledger knows it, or None if it has to be read.
    """
    if unit.version in ledger.versions:
        return unit, unit.version
    if unit.fingerprint is None and unit.content is not None:
        unit = replace(unit, fingerprint=unit.content())
    return unit, unit.fingerprint if unit.fingerprint in ledger.fingerprints else None


def newer(table: Table, before: str | None, newest: Any) -> str | None:
    """Return the watermark as text: the newest value of the cursor, or what it was if that is later.

    Instants and dates are written in ISO 8601, whole numbers in digits.
    """
    if newest is None or table.cursor is None:
        return before
    if before is not None and newest < parse_watermark(table, before):
        return before
    return newest.isoformat() if isinstance(newest, (datetime, date)) else str(newest)


def trusted(table: Table, watermark: str | None) -> str | None:
    """Return a watermark, or None if it lies in the future: it followed a row that is refused today."""
    if watermark is None or table.cursor is None:
        return watermark
    try:
        value = pa.array([parse_watermark(table, watermark)], table.column(table.cursor).type)
    except (ValueError, TypeError):
        return watermark  # of another type than the cursor has now: the reader says so
    return watermark if in_future(value) is None else None


def parse_watermark(table: Table, text: str) -> Any:
    """Return a watermark as a value of its cursor's type: an instant, a date or a whole number."""
    kind = table.column(str(table.cursor)).type
    if pa.types.is_timestamp(kind):
        return datetime.fromisoformat(text)
    return date.fromisoformat(text) if pa.types.is_date(kind) else int(text)
