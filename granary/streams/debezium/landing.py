"""Debezium's changes on their way into raw: the change table, the current table, and the positions behind them.

A batch moves three things together: the rows, Kafka's position, and the place in the source's log (`known`). What lies
at a place that has landed is left out, and so are tombstones; what is no envelope goes to the quarantine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from granary.cdc.landing import Lander
from granary.load.batch_stage import UnitLoad
from granary.load.captured import check_held
from granary.sources.capture import changes_table
from granary.sources.units import Rejected, Unit
from granary.streams.debezium import known as known_places
from granary.streams.debezium.envelope import LAST, event
from granary.streams.debezium.known import Known, sift
from granary.streams.debezium.rows import deletions, key_of, source_batch
from granary.streams.decoding import UnfitError, payload
from granary.streams.landing import FencedError
from granary.streams.positions import moved, of_kind
from granary.warehouse.ledger import record
from granary.warehouse.records import Target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.cdc.landing import Landed
    from granary.cdc.rows import Key
    from granary.sources.spec import Source, Table
    from granary.streams.debezium.envelope import Event
    from granary.streams.log import Run
    from granary.streams.registered import RegistryDecoder
    from granary.warehouse.writer import LoadTransaction

KIND = "debezium"
"""In a table's watermark: the places in the source's log, by Kafka's partition; `COPY` is how far a copy of it is."""
COPY = "copy"
STRANGE = "lies before what has landed, and is not known: was the source restored to an earlier state?"
PARTS = "empties the table, which cannot be told in time among several partitions: use one"


@dataclass(frozen=True)
class Read:
    """A run as changes, and its messages that are none."""

    run: Run
    events: list[Event]
    rejected: list[Rejected]


@dataclass(frozen=True)
class Done:
    """What a run did, as the stream's loop counts it."""

    rows_read: int
    rows_loaded: int
    rows_quarantined: int


@dataclass(frozen=True)
class Copy:
    """A copy of the table that is being made: where in the log, and the first load of it."""

    order: tuple[int, int, int]
    load_id: int
    over: bool = False


@dataclass(frozen=True)
class CapturedLanding:
    """Where the runs of one source's log go; `registered` are the decoders by topic, none where messages are JSON."""

    source: Source
    tables: Mapping[str, Table]
    registered: Mapping[str, RegistryDecoder]
    kind: str
    max_bytes: int

    def check(self, tx: LoadTransaction) -> None:
        """Refuse to go on from raw tables that do not hold what was captured.

        Raises:
            LostSlotError: somebody dropped or emptied one, or deleted rows of it.
        """
        for table in self.tables.values():
            for contract in (table, changes_table(table)):
                check_held(tx.connection, self.source, contract)

    def decode(self, runs: Sequence[Run]) -> list[Read]:
        """Return the changes of runs."""
        return [self._read(run) for run in runs]

    def _read(self, run: Run) -> Read:
        events, rejected = [], []
        for message in run.messages:
            try:
                found = event(message, run.topic, self.max_bytes, self.registered.get(run.topic))
            except UnfitError as error:
                rejected.append(Rejected("", str(error), payload(message.value), message.line))
                continue
            if found is not None:
                events.append(found)
        return Read(run, events, rejected)

    def land(self, tx: LoadTransaction, decoded: Sequence[Read], run_id: str) -> list[Done]:
        """Store the changes of runs and move the positions, in a transaction that the caller commits.

        Raises:
            FencedError: a run does not begin where the warehouse is.
        """
        done = []
        for topic, group in groupby(sorted(decoded, key=_topic), key=_topic):
            table = self.tables[topic]
            before = held = tx.watermark(table.name)
            for read in group:
                run = read.run
                stored = of_kind(held, self.kind).get(run.partition)
                if stored != run.start:
                    raise FencedError(run.partition, run.start, stored)
                held = moved(held, self.kind, run.partition, run.end)
                result, held = self._land(tx, table, read, held, run_id)
                done.append(result)
            self._move(tx, table, topic, before, str(held), run_id)
        return done

    def _move(self, tx: LoadTransaction, table: Table, topic: str, before: str | None, after: str, run_id: str) -> None:
        """Move the positions of a table; the ledger hears of runs that are all tombstones or repetitions, too."""
        unit_load = UnitLoad(Unit(topic), tx.next_load_ids(1)[0])
        marks = {"run_id": run_id, "is_new": False, "watermark_before": before, "watermark_after": after}
        record(tx.connection, [unit_load.audit(self.source.name, table.name, "unchanged", **marks)])
        tx.set_watermark(table.name, after, unit_load.load_id)

    def _land(self, tx: LoadTransaction, table: Table, read: Read, held: str, run_id: str) -> tuple[Done, str]:
        """Store one run; return the table's watermark after it."""
        places = of_kind(held, KIND)
        known = Known.parse(places.get(read.run.partition))
        sifted = sift(tx, self.source, table, known, [(one, key_of(one, table)) for one in read.events])
        rejected = [*read.rejected, *(_refused(one, STRANGE) for one in sifted.strange)]
        new = sifted.new
        if len(of_kind(held, self.kind)) > 1:
            rejected += [_refused(one, PARTS) for one in new if one.op == "truncate"]
            new = [one for one in new if one.op != "truncate"]
        if not new and not rejected:
            return Done(0, 0, 0), held
        lander = Lander(tx, self.source, read.run.partition, run_id)
        done = Done(0, 0, 0)
        copy = _parsed(places.get(COPY))
        for part in _parts(new):
            landed = lander.land(table, source_batch(part, table, lambda *of: lander.stored(table, *of), rejected))
            rejected = []
            done = _plus(done, landed)
            if new and part[-1] is new[-1]:
                known.landed(sifted.high, landed.changes_load_id)
            copy, over = _copying(copy, part, landed.changes_load_id)
            if over is not None:
                done = _plus(done, self._sweep(lander, table, over, part[-1]))
        held = moved(held, KIND, read.run.partition, known.dump())
        if copy is not None:
            held = moved(held, KIND, COPY, json.dumps([copy.order, copy.load_id, copy.over]))
        return done, held

    def _sweep(self, lander: Lander, table: Table, copy: Copy, last: Event) -> Landed | None:
        """Delete what a copy that is complete did not find: its rows are gone from the source since."""
        target = Target(self.source.name, table.name, table.schema, table.key)
        gone: list[Key] = known_places.vanished(lander.tx, target, copy.load_id)
        if not gone:
            return None
        return lander.land(table, deletions(gone, table, replace(last, op="delete", place=copy.order[1:], xid=None)))


def _parts(new: list[Event]) -> list[list[Event]]:
    """Return changes in parts that each land alone: one ends behind the last row of a copy."""
    parts: list[list[Event]] = [[]]
    for place, one in enumerate(new):
        if place and _of_copy(new[place - 1]) and (new[place - 1].snapshot in LAST or not _of_copy(one)):
            parts.append([])
        parts[-1].append(one)
    return parts


def _of_copy(one: Event) -> bool:
    """Return whether a change is a row of a whole copy; incremental ones are read beside the changes."""
    return one.op == "snapshot" and one.snapshot != "incremental"


def _copying(copy: Copy | None, part: Sequence[Event], load_id: int) -> tuple[Copy | None, Copy | None]:
    """Return how far copying is after a part, and the copy that is over with it, if it is."""
    for one in part:
        if not _of_copy(one):
            if copy is not None and not copy.over:
                return replace(copy, over=True), copy
        elif copy is None or copy.order != one.order:
            copy = Copy(one.order, load_id)
    if copy is not None and not copy.over and part and part[-1].snapshot in LAST:
        return replace(copy, over=True), copy
    return copy, None


def _parsed(text: str | None) -> Copy | None:
    if text is None:
        return None
    order, load_id, over = json.loads(text)
    return Copy(tuple(order), load_id, over)


def _refused(one: Event, why: str) -> Rejected:
    return Rejected("", why, payload(one.message.value), one.message.line)


def _plus(done: Done, landed: Landed | None) -> Done:
    if landed is None:
        return done
    loaded = landed.changes - landed.refused
    return Done(done.rows_read + landed.changes, done.rows_loaded + loaded, done.rows_quarantined + landed.refused)


def _topic(read: Any) -> str:
    return str(read.run.topic)
