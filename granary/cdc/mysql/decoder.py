"""Events of the binary log as changes: transaction by transaction in Python, their rows by whole columns."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import numpy as np
import pyarrow as pa

from granary.cdc.mysql import events
from granary.cdc.mysql.ddl import effect
from granary.cdc.mysql.events import HEADER
from granary.cdc.mysql.gtid import Gtid, GtidSet
from granary.cdc.mysql.images import Images, walk
from granary.cdc.mysql.table_map import LogTable, names, parse
from granary.cdc.mysql.values import texts
from granary.load.captured import LostSlotError
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.cdc.pieces import Array

INSERT, UPDATE, DELETE, TRUNCATE = range(4)
OPS = ["insert", "update", "delete", "truncate"]
KINDS = {
    **dict.fromkeys(events.INSERTS, INSERT),
    **dict.fromkeys(events.UPDATES, UPDATE),
    **dict.fromkeys(events.DELETES, DELETE),
}
SECOND = 1_000_000
"""Microseconds."""


class Commit(NamedTuple):
    """A transaction: its number among those that were captured, its number at the source, and when it was (in µs)."""

    number: int
    at_source: int
    committed: int


@dataclass(frozen=True)
class Side:
    """Images of some of the rows of a run: the rows' places in it, and the images."""

    rows: Array
    images: Images


@dataclass(frozen=True)
class Changes:
    """Changes of one table in the order of their commits, all made while the table had the same columns.

    Per change: `ops`, the number of its transaction's `commit` and of that `at_source`, when it was `committed`
    (microseconds since 1970), and its place `seq` in it, from 1. `new` are images after the change, `old` before it.
    """

    contract: str
    table: LogTable
    data: Array
    codecs: Mapping[int, str]
    ops: Array
    commit: Array
    at_source: Array
    committed: Array
    seq: Array
    new: Side
    old: Side

    def texts(self, column: int, side: Side) -> pa.Array:
        """Return a column of some images as text; null where it is null, or the row is not among the images."""
        images = side.images
        if not len(side.rows):
            return pa.nulls(len(self.ops), pa.string())
        found = texts(
            self.data,
            self.table.columns[column],
            images.starts[column],
            images.lengths[column],
            images.valid[column],
            self.codecs,
        )
        places = np.full(len(self.ops), -1)
        places[side.rows] = np.arange(len(side.rows))
        return found.take(pa.array(places, mask=places < 0))


@dataclass(frozen=True)
class Record:
    """What one event does to a captured table: its kind, where its rows are, and its transaction."""

    contract: str
    table: LogTable
    op: int
    begin: int
    end: int
    commit: Commit


@dataclass
class Decoder:
    """Turns runs of events into changes; keeps what one run leaves to the next.

    `captured` are the contracts' names by schema and table, `copied` what the copies of single tables hold already, by
    contract. `stored` are the transactions up to the last one seen, `commits` their number since the first copy, `file`
    and `position` where that one ends, `committed` its time in microseconds since 1970.
    `open` is the number of the transaction that a run ended in, and how many changes of it there have been.
    """

    source: str
    is_mariadb: bool
    captured: Mapping[tuple[str, str], str]
    codecs: Mapping[int, str]
    stored: GtidSet
    commits: int
    copied: Mapping[str, GtidSet] = field(default_factory=dict)
    file: str = ""
    position: int = 0
    committed: int = 0
    seam: events.Seam = field(default_factory=events.Seam)
    tables: dict[bytes, tuple[str, LogTable] | None] = field(default_factory=dict)
    announced: dict[bytes, tuple[str, LogTable] | None] = field(default_factory=dict)
    latest: dict[str, LogTable] = field(default_factory=dict)
    gtid: Gtid | None = None
    commit: Commit = field(default_factory=lambda: Commit(0, 0, 0))
    touched: bool = False
    open: tuple[int, int] = (0, 0)

    def feed(self, run: Sequence[bytes]) -> list[Changes]:
        """Decode a run of events, which may begin and end within a transaction.

        Raises:
            LostSlotError: a table was altered so that rows differ without a change in the log.
            GranaryError: an event is of a kind that is not read.
        """
        records: list[Record] = []
        bodies: list[bytes] = []
        size = 0
        for event in run:
            kind = event[events.KIND]
            if kind in KINDS:
                record = self._rows(kind, event, size)
                if record is not None:
                    records.append(record)
                    bodies.append(event)
                    size += len(event)
            elif kind == events.TABLE_MAP:
                self._announce(event)
            else:
                records += self._other(kind, event)
            if self.seam.ends(kind, event):
                self._commit(event)
        return self._changes(records, np.frombuffer(b"".join(bodies), np.uint8))

    # -- event by event --------------------------------------------------------------------------------------

    def _announce(self, event: bytes) -> None:
        key = event[HEADER + 6 :]
        if key not in self.announced:
            contract, found = self.captured.get(names(event)), None
            if contract is not None:
                found = contract, parse(event, self.codecs, is_mariadb=self.is_mariadb)
            self.announced[key] = found
        self.tables[events.table_id(event)] = self.announced[key]

    def _rows(self, kind: int, event: bytes, offset: int) -> Record | None:
        found = self.tables[events.table_id(event)]
        if found is None or self._is_copied(found[0]):
            return None
        contract, table = found
        at = HEADER + 8
        if kind in (events.INSERTS[1], events.UPDATES[1], events.DELETES[1]):
            at += int.from_bytes(event[at : at + 2], "little")
        count = len(table.columns)
        at += 1 if event[at] < 0xFB else 3  # noqa: PLR2004 - a number under 251 is one byte
        width = (count + 7) // 8
        everything = (1 << count) - 1
        op = KINDS[kind]
        for _ in range(2 if op == UPDATE else 1):
            if int.from_bytes(event[at : at + width], "little") & everything != everything:
                raise LostSlotError(
                    f"a change of table {contract} leaves columns out: a session writes with another binlog_row_image"
                    " than FULL",
                    self.source,
                    f"{table.schema}.{table.name}",
                )
            at += width
        self.touched = True
        return Record(contract, table, op, offset + at, offset + len(event), self.commit)

    def _is_copied(self, contract: str) -> bool:
        copied = self.copied.get(contract)
        return copied is not None and self.gtid is not None and self.gtid in copied

    def _other(self, kind: int, event: bytes) -> list[Record]:
        if kind == events.MARIADB_GTID:
            number, domain = struct.unpack_from("<QI", event, HEADER)
            (server,) = struct.unpack_from("<I", event, events.SERVER)
            self._begin(Gtid(str(domain), number, server), event)
        elif kind == events.GTID:
            group = str(UUID(bytes=event[HEADER + 1 : HEADER + 17]))
            self._begin(Gtid(group, int.from_bytes(event[HEADER + 17 : HEADER + 25], "little")), event)
        elif kind == events.ROTATE:
            self.file, self.position = events.rotation(event)
        elif kind == events.QUERY:
            return self._statement(event)
        elif kind == events.XA_PREPARE and self.touched and not event[HEADER]:
            self._refuse("a distributed transaction (XA) has changed tables, and its log does not say in which order")
        elif kind == events.INCIDENT:
            self._refuse("the source says that its log lacks changes (an incident event)")
        elif kind == events.ANONYMOUS:
            raise GranaryError(
                "transactions of the source have no global ids",
                self.source,
                "set gtid_mode = on there, and capture again",
            )
        elif kind in events.UNREADABLE:
            raise GranaryError(
                f"the source's log has events of a kind that is not read ({kind})",
                self.source,
                f"{events.UNREADABLE[kind]} there, then `granary capture {self.source} --snapshot`",
            )
        return []

    def _begin(self, gtid: Gtid, event: bytes) -> None:
        (seconds,) = struct.unpack_from("<I", event, events.TIME)
        self.gtid, self.touched = gtid, False
        self.commit = Commit(self.commits + 1, gtid.number, seconds * SECOND)

    def _commit(self, event: bytes) -> None:
        if self.gtid is not None:
            self.stored.add(self.gtid)
            self.gtid = None
        self.commits = self.commit.number
        self.committed = self.commit.committed
        self.position = int(struct.unpack_from("<I", event, events.NEXT)[0])

    def _statement(self, event: bytes) -> list[Record]:
        schema, raw = events.query(event)
        found = effect(raw.decode("utf-8", "replace"), schema, self.captured)
        if found is None:
            return []
        if found.contract and self._is_copied(found.contract):
            return []
        if found.truncates:
            table = self.latest.get(found.contract) or LogTable("", found.contract, ())
            return [Record(found.contract, table, TRUNCATE, 0, 0, self.commit)]
        self._refuse(found.why)
        return []

    def _refuse(self, what: str) -> None:
        raise LostSlotError(what, self.source, f"source {self.source}")

    # -- by columns ------------------------------------------------------------------------------------------

    def _changes(self, records: list[Record], data: Array) -> list[Changes]:
        """Walk the rows of each table and shape, then number them in their transactions."""
        counts = np.ones(len(records), np.int64)
        runs: list[list[int]] = []
        last: dict[str, list[int]] = {}
        for place, record in enumerate(records):
            mine = last.get(record.contract)
            if mine is None or (records[mine[0]].table != record.table and record.op != TRUNCATE):
                mine = last[record.contract] = []
                runs.append(mine)
            mine.append(place)
            if record.op != TRUNCATE:
                self.latest[record.contract] = record.table
        walked = [_walked(records, np.array(run), data, counts) for run in runs]
        before = self._before(records, counts)
        found = []
        for run, (owner, ops, new, old) in zip(runs, walked, strict=True):
            index = np.searchsorted(np.array(run), owner)
            number, at_source, committed = np.array([records[place].commit for place in run])[index].T
            within = np.arange(len(owner)) - np.searchsorted(owner, owner)
            record = records[run[0]]
            found.append(
                Changes(
                    record.contract,
                    record.table,
                    data,
                    self.codecs,
                    ops,
                    number,
                    at_source,
                    committed,
                    before[owner] + within + 1,
                    new,
                    old,
                )
            )
        return found

    def _before(self, records: list[Record], counts: Array) -> Array:
        """Return, per record, how many changes of its transaction come before it."""
        number, carried = self.open
        now = self.commit.number
        numbers = np.array([record.commit.number for record in records], np.int64)
        before = np.cumsum(counts) - counts
        before = before - before[np.searchsorted(numbers, numbers)] + np.where(numbers == number, carried, 0)
        of_now = int(counts[numbers == now].sum())
        self.open = (now, of_now + (carried if now == number else 0))
        return before


def _walked(records: list[Record], run: Array, data: Array, counts: Array) -> tuple[Array, Array, Side, Side]:
    """Walk the rows of one table's events; note in `counts` how many each has.

    Returns:
        Per row the place of its record and what it is, and the images after and before.
    """
    table, of_run = records[run[0]].table, np.array([records[place].op for place in run])
    owners, ops, size = [], [], 0
    new: list[tuple[Array, Images]] = []
    old: list[tuple[Array, Images]] = []
    for op in (INSERT, UPDATE, DELETE, TRUNCATE):
        mine = run[of_run == op]
        if not len(mine):
            continue
        event = np.arange(len(mine))
        if op != TRUNCATE:
            begins, ends = (np.array([getattr(records[place], edge) for place in mine]) for edge in ("begin", "end"))
            event, first, second = walk(data, begins, ends, table, pairs=op == UPDATE)
            counts[mine] = np.bincount(event, minlength=len(mine))
            places = np.arange(size, size + len(event))
            if op != DELETE:
                new.append((places, second or first))
            if op != INSERT:
                old.append((places, first))
        owners.append(mine[event])
        ops.append(np.full(len(event), op))
        size += len(event)
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    inverse = np.empty(size, np.int64)
    inverse[order] = np.arange(size)
    return owner[order], np.concatenate(ops)[order], _side(new, inverse), _side(old, inverse)


def _side(parts: list[tuple[Array, Images]], inverse: Array) -> Side:
    if not parts:
        return Side(np.zeros(0, np.int64), Images((), (), ()))
    return Side(
        inverse[np.concatenate([places for places, _ in parts])], Images.joined([images for _, images in parts])
    )
