"""The quarantine as people use it: look at what was refused, replay it, or drop it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from granary.cdc import late_changes
from granary.cdc.landing import Lander
from granary.cdc.rows import NOT_HERE
from granary.load.api import find, load_table
from granary.load.append import append
from granary.load.batch_stage import BatchStage, UnitLoad
from granary.load.json_objects import text_of
from granary.load.refusals import reason, refusal_text
from granary.readers.files.notation import AS_WRITTEN, MAYBE_THOUSANDS, may_be_thousands
from granary.sources.capture import changes_table
from granary.sources.discovery import SOURCES
from granary.sources.units import SourceBatch, Unit
from granary.warehouse.connection import connect, execute, query
from granary.warehouse.errors import GranaryError, UsageError
from granary.warehouse.json_text import decode, is_flaw
from granary.warehouse.ledger import forget_unreadable
from granary.warehouse.writer import LoadTransaction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.sources.spec import Source, Table
    from granary.warehouse.settings import Settings

COLUMNS = (
    "quarantine_id, source, table_name, unit, row_number, line, column_name, reason, payload::text, contract_version,"
    " load_id, status, first_seen_at, last_seen_at"
)

CLOSE = "update ops.quarantine set status = 'replayed', replayed_load_id = $1 where quarantine_id = $2"
CLOSE_READ = (
    "update ops.quarantine as q set status = 'replayed', replayed_load_id = ("
    "select max(load_id) from ops.load_audit as a where a.status = 'loaded' and a.superseded_by is null"
    " and (a.source, a.table_name, a.unit) = (q.source, q.table_name, q.unit)) where quarantine_id = $1"
)
"""Of a unit that could be read: the load that brought it."""

RUN = "replay"
"""What the ledger has as the run of a replay."""

NO_CHANGE = "is a message that says of no change what it was: correct it where it comes from, and drop the entry"


@dataclass(frozen=True)
class Entry:
    """One refused row, or one unreadable unit (row 0), as ops.quarantine keeps it.

    A row that a delivery's target refused is one, too: `granary/deliver/refused.py` says what of it is where.
    """

    quarantine_id: int
    source: str
    table: str
    unit: str
    row_number: int
    line: int | None
    column: str
    reason: str
    payload: dict[str, Any]
    contract_version: int
    load_id: int
    status: str
    first_seen_at: datetime
    last_seen_at: datetime

    @property
    def why(self) -> str:
        """The reason, with the value at fault unless it may be personal; see `refusals.value`."""
        try:
            table = _find(self.source, self.table)[1]
        except GranaryError:  # no longer declared, so nobody knows what is personal
            return self.reason
        return reason(table, self.column, self.reason, self.payload)

    @property
    def place(self) -> str:
        """Where a person finds it in the source."""
        if not self.row_number:
            return self.unit
        return f"{self.unit}, " + (f"row {self.row_number}" if self.line is None else f"line {self.line}")


@dataclass(frozen=True)
class Replayed:
    """What became of one table's entries: landed, and still refused (with the reason of today)."""

    source: str
    table: str
    landed: tuple[int, ...]
    refused: tuple[tuple[int, str], ...]


def entries(
    settings: Settings,
    ids: Sequence[int] = (),
    *,
    tables: Sequence[tuple[str, str]] = (),
    status: str | None = "open",
    limit: int | None = None,
) -> list[Entry]:
    """Return entries by their ids, or by table and status, in the order in which they came.

    Raises:
        GranaryError: there is no entry with such an id.
    """
    where, parameters = "true", []
    if ids:
        where = f"quarantine_id in ({', '.join(str(int(number)) for number in ids)})"
    else:
        if status:
            parameters.append(status)
            where += f" and status = ${len(parameters)}"
        if tables:
            pairs = []
            for pair in tables:
                parameters += pair
                pairs.append(f"(source = ${len(parameters) - 1} and table_name = ${len(parameters)})")
            where += f" and ({' or '.join(pairs)})"
    sql = f"select {COLUMNS} from ops.quarantine where {where} order by quarantine_id"
    with connect(settings, role="loader") as connection:
        rows = query(connection, sql + (f" limit {int(limit)}" if limit else ""), *parameters)
    found = [_entry(row) for row in rows]
    if missing := set(ids) - {entry.quarantine_id for entry in found}:
        raise UsageError(
            f"there is no entry {min(missing)} in the quarantine", todo="see `granary quarantine list --status all`"
        )
    return found


def _entry(row: tuple[Any, ...]) -> Entry:
    values = list(row)
    values[8] = decode(values[8])
    return Entry(*values)


def drop(settings: Settings, ids: Sequence[int]) -> int:
    """Give entries up: they are never replayed, and stay for the record. Returns how many were open."""
    chosen = [entry.quarantine_id for entry in entries(settings, ids) if entry.status == "open"] if ids else []
    with connect(settings, role="loader") as connection:
        for number in chosen:
            execute(connection, "update ops.quarantine set status = 'dropped' where quarantine_id = $1", number)
        connection.commit()
    return len(chosen)


def replay(settings: Settings, chosen: Sequence[Entry], changes: Mapping[str, str]) -> list[Replayed]:
    """Send refused rows through the contract as it is now; those that pass land once, as their entries are closed.

    A row's values are taken as text and parsed to the contract's types. A row of a file or of another unit that is
    replaced whole belongs to it again: when the unit is delivered anew, the replayed row goes with the others. A unit
    that was unreadable is read again. A change of a captured table lands in its change table and in the table itself,
    unless a later change of its row has landed.

    Args:
        settings: the warehouse.
        chosen: the entries; those that are no longer open are left alone.
        changes: values to put in place of what was received, by column.

    Raises:
        GranaryError: a change names a column that the table does not have, or the load of a unit fails.
    """
    done = []
    by_table = sorted(chosen, key=lambda entry: (entry.source, entry.table, entry.unit, entry.quarantine_id))
    for (name, table_name), group in groupby(by_table, key=lambda entry: (entry.source, entry.table)):
        source, table, captured = _find(name, table_name)
        if unknown := set(changes) - {column.name for column in (captured or table).columns}:
            raise GranaryError(f"{name}.{table_name} has no column {min(unknown)}", todo="see the table's contract")
        mine = list(group)
        rows = [entry for entry in mine if entry.row_number]
        landed, refused = _replay_rows(settings, source, table, captured, rows, changes) if rows else ([], [])
        if units := [entry for entry in mine if not entry.row_number]:
            read, unread = _read_again(settings, source, table, units)
            landed, refused = landed + read, refused + unread
        done.append(Replayed(name, table_name, tuple(landed), tuple(refused)))
    return done


def _find(name: str, table_name: str) -> tuple[Source, Table, Table | None]:
    """Return a source and its table; for a change table also the captured table that it belongs to."""
    source = SOURCES.get(name)
    if source and source.is_captured:
        for table in source.tables:
            if changes_table(table).name == table_name:
                return source, changes_table(table), table
    return *find(name, table_name), None


def _replay_rows(
    settings: Settings,
    source: Source,
    table: Table,
    captured: Table | None,
    chosen: Sequence[Entry],
    changes: Mapping[str, str],
) -> tuple[list[int], list[tuple[int, str]]]:
    landed: list[int] = []
    refused: list[tuple[int, str]] = []
    with LoadTransaction(settings, source.name) as tx:
        # Under the source's lock, so that no second replay and no load closes them meanwhile.
        still = {
            int(row[0])
            for row in tx.query(
                "select quarantine_id from ops.quarantine where source = $1 and table_name = $2 and status = 'open'",
                source.name,
                table.name,
            )
        }
        rows = [entry for entry in chosen if entry.quarantine_id in still]
        if captured:
            refused += [(entry.quarantine_id, NO_CHANGE) for entry in rows if not entry.payload.get("cdc_op")]
            rows = [entry for entry in rows if entry.payload.get("cdc_op")]
            rows.sort(key=lambda entry: (int(entry.payload["cdc_lsn"]), int(entry.payload["cdc_seq"])))
        raw = BatchStage(source, table, {}, None)
        raw.know_raw(tx)
        destination = _Destination(tx, source, table, captured, [*raw.agreed, *raw.raw])
        for unit, group in groupby(rows, key=lambda entry: entry.unit):
            mine = list(group)
            values = [{**_texts(table, entry.payload), **changes} for entry in mine]
            absent = {
                index: entry.column
                for index, entry in enumerate(mine)
                if entry.reason == NOT_HERE and entry.column not in changes
            }
            # 1.234 is another number where a comma is the decimal point: only a value that is given can stand for it.
            foreign = {
                index: f"{entry.column} {entry.reason}"
                for index, entry in enumerate(mine)
                if _is_foreign(table, entry) and entry.column not in changes
            }
            bad = destination.refusals(values, absent) | foreign | _unknown(mine, changes)
            good = [index for index in range(len(mine)) if index not in bad]
            if good:
                load_id = destination.land(unit, [values[index] for index in good])
                for index in good:
                    tx.execute(CLOSE, load_id, mine[index].quarantine_id)
            for index, reason in sorted(bad.items()):
                tx.execute(
                    "update ops.quarantine set last_seen_at = clock_timestamp(), contract_version = $1"
                    " where quarantine_id = $2",
                    table.contract,
                    mine[index].quarantine_id,
                )
                refused.append((mine[index].quarantine_id, reason))
            landed += [mine[index].quarantine_id for index in good]
    return landed, refused


def _is_foreign(table: Table, entry: Entry) -> bool:
    """Return whether a value was written in another way than is agreed, and would be read as another one."""
    named = (one.type for one in table.columns if entry.column in (one.name, *one.aliases))
    unclear = entry.reason == MAYBE_THOUSANDS and any(map(may_be_thousands, named))
    return unclear or entry.reason.endswith(AS_WRITTEN)


def _unknown(chosen: Sequence[Entry], changes: Mapping[str, str]) -> dict[int, str]:
    """Return the entries of which one cannot say what they hold, unless the value is given; by their index."""
    return {
        index: f"{entry.column} {entry.reason}: give its value"
        for index, entry in enumerate(chosen)
        if entry.column and is_flaw(entry.reason) and entry.column not in changes
    }


@dataclass(frozen=True)
class _Destination:
    """How refused rows come back to a table; a change of a captured table goes by its change table, `table`."""

    tx: LoadTransaction
    source: Source
    table: Table
    captured: Table | None
    names: Sequence[str]

    def refusals(self, rows: Sequence[Mapping[str, str | None]], absent: Mapping[int, str]) -> dict[int, str]:
        """Return why rows cannot land, by their index; `absent` as in `late_changes.source_batch`."""
        stage = BatchStage(self.source, self.table, {}, None)
        stage.know_raw(self.tx)
        unit_load = UnitLoad(Unit(""), 0)
        for _ in stage.batches(unit_load, [self._source_batch(rows, absent)]):
            pass
        bad = {refusal.row - 1: refusal_text(self.table, refusal) for refusal in unit_load.refusals}
        if self.captured:
            fit = [index for index in range(len(rows)) if index not in bad]
            undoing = late_changes.overtaken(self.tx, self.source, self.captured, [rows[index] for index in fit])
            return bad | {fit[place]: late_changes.OVERTAKEN for place in undoing}
        empty = [index for index, row in enumerate(rows) if all(row.get(name) is None for name in self.names)]
        return bad | dict.fromkeys(empty, "it holds none of the table's columns: give their values")

    def land(self, unit: str, rows: Sequence[Mapping[str, str | None]]) -> int:
        """Bring rows into the table, and return their load's id."""
        source_batch = self._source_batch(rows, {})
        if self.captured:
            return Lander(self.tx, self.source, unit, RUN).land(self.captured, source_batch).changes_load_id
        return append(self.tx, self.source, self.table, Unit(unit), [source_batch], run_id=RUN).load_ids[0]

    def _source_batch(self, rows: Sequence[Mapping[str, str | None]], absent: Mapping[int, str]) -> SourceBatch:
        return (
            late_changes.source_batch(self.captured, self.names, rows, absent)
            if self.captured
            else _as_text(self.names, rows)
        )


def _texts(table: Table, payload: Mapping[str, Any]) -> dict[str, str | None]:
    """Return a payload as texts, with the contract's names instead of the delivered ones."""
    names = {alias: column.name for column in table.columns for alias in column.aliases}
    return {names.get(name, name): text_of(value) for name, value in payload.items()}


def _as_text(names: Sequence[str], rows: Sequence[Mapping[str, str | None]]) -> SourceBatch:
    """Return rows as a batch of text with these columns; a missing value is null."""
    arrays = [pa.array([row.get(name) for row in rows], pa.string()) for name in names]
    return SourceBatch(pa.RecordBatch.from_arrays(arrays, names=list(names)), text=True)


def _read_again(
    settings: Settings, source: Source, table: Table, units: Sequence[Entry]
) -> tuple[list[int], list[tuple[int, str]]]:
    """Have the ledger forget that units were unreadable, and load the table."""
    with LoadTransaction(settings, source.name) as tx:
        for entry in units:
            forget_unreadable(tx.connection, source.name, table.name, entry.unit)
    result = load_table(settings, source.name, table.name, run_id=RUN)
    landed = [entry for entry in units if entry.unit in result.units_loaded]
    with connect(settings, role="loader") as connection:
        for entry in landed:
            execute(connection, CLOSE_READ, entry.quarantine_id)
        connection.commit()
    today = {one.unit: one.reason for one in result.not_loaded}
    refused = [(entry.quarantine_id, today.get(entry.unit, entry.reason)) for entry in units if entry not in landed]
    return [entry.quarantine_id for entry in landed], refused
