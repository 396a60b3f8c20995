"""Runs on their way into raw, and the positions behind them or their ids: how every reader of a log ends a batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Protocol, TypeVar

from granary.load.append import append_sound
from granary.load.newest import sent_at
from granary.sources.units import Rejected, SourceBatch, Unit
from granary.streams import known
from granary.streams.decoding import payload
from granary.streams.positions import moved, of_kind, without_gaps
from granary.warehouse.ledger import record_changes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.load.batch_stage import LoadResult
    from granary.sources.spec import Source, Table
    from granary.streams.log import Decoder, Message, Run
    from granary.warehouse.records import Change
    from granary.warehouse.writer import LoadTransaction

Decoded = tuple["Run", list[SourceBatch], list["Change"]]
"""A run, its rows, and what changed in their schemas."""

NAMELESS = "has no id, and the table has no key: a second delivery could not be told from it"

Read = TypeVar("Read")


class Done(Protocol):
    """What became of a run's messages."""

    @property
    def rows_read(self) -> int:
        """Return how many rows they were."""

    @property
    def rows_loaded(self) -> int:
        """Return how many landed."""

    @property
    def rows_quarantined(self) -> int:
        """Return how many were refused."""


class Lands(Protocol[Read]):
    """How runs become rows of a source's tables, with the positions behind them."""

    def decode(self, runs: Sequence[Run]) -> Sequence[Read]:
        """Return what the runs hold."""

    def land(self, tx: LoadTransaction, decoded: Sequence[Read], run_id: str) -> Sequence[Done]:
        """Store it in a transaction that the caller commits."""


class FencedError(Exception):
    """A partition was read by another process meanwhile."""

    def __init__(self, partition: str, ours: str | None, theirs: str | None) -> None:
        super().__init__(f"{partition}: read from {ours}, and the warehouse is at {theirs}")


@dataclass(frozen=True)
class Landing:
    """Where the runs of one source's log go: its tables and decoders by topic; `kind` is the log's."""

    source: Source
    tables: Mapping[str, Table]
    decoders: Mapping[str, Decoder]
    kind: str

    def decode(self, runs: Sequence[Run]) -> list[Decoded]:
        """Return the rows of runs; lines are offsets where these have no gaps."""
        return [(run, *self._source_batches(run)) for run in runs]

    def land(self, tx: LoadTransaction, decoded: Sequence[Decoded], run_id: str) -> list[LoadResult]:
        """Add the rows of runs to raw and move the positions, in a transaction that the caller commits.

        Of a queue's runs only messages that are not known yet are added, and all of them are known from then on.

        Raises:
            FencedError: a run does not begin where the warehouse is.
        """
        done = []
        for topic, group in groupby(sorted(decoded, key=_topic), key=_topic):
            table = self.tables[topic]
            held = tx.watermark(table.name)
            for each in group:
                run, parts, changes = each if each[0].ids is None else self._unknown(tx, table, each)
                if run.ids == ():
                    continue
                stored = of_kind(held, self.kind).get(run.partition)
                if run.ids is None and stored != run.start:
                    raise FencedError(run.partition, run.start, stored)
                end = run.end if run.ids is None else max(run.end, stored or "")
                held = moved(held, self.kind, run.partition, end)
                result = append_sound(
                    tx,
                    self.source,
                    table,
                    Unit(run.partition),
                    parts,
                    run_id=run_id,
                    position=held,
                    data_at=sent_at(message.at for message in run.messages),
                    once=True,
                )
                record_changes(tx.connection, self.source.name, table.name, result.load_ids[0], changes)
                done.append(result)
        return done

    def _unknown(self, tx: LoadTransaction, table: Table, decoded: Decoded) -> Decoded:
        """Return what of a queue's run has not landed before; it is decoded again if that is not all of it."""
        run = decoded[0]
        new = known.claim(tx, table, run.messages, run.ids or ())
        if len(new) == len(run.messages):
            return decoded
        left = replace(
            run,
            messages=tuple(run.messages[index] for index in new),
            ids=tuple((run.ids or ())[index] for index in new),
        )
        return (left, *self._source_batches(left))

    def _source_batches(self, run: Run) -> tuple[list[SourceBatch], list[Change]]:
        source_batches: list[SourceBatch] = []
        changes: list[Change] = []
        named, nameless = self._by_name(run)
        for part in [*without_gaps(named), *([nameless] if nameless else [])]:
            line, place = part[0].line, 0
            for decoded in self.decoders[run.topic].decode(run.topic, part):
                source_batch = SourceBatch(decoded.batch, decoded.rejected, line=line)
                if part is nameless:
                    source_batch = _refused(source_batch, part[place : place + source_batch.rows])
                source_batches.append(source_batch)
                place += source_batch.rows
                line = None if line is None else line + source_batch.rows
                changes += [change for change in decoded.changes if change not in changes]
        return source_batches, changes

    def _by_name(self, run: Run) -> tuple[Sequence[Message], Sequence[Message]]:
        """Return a run's messages, and those that nothing would tell from a second delivery."""
        if run.ids is None or None not in run.ids or self.tables[run.topic].key:
            return run.messages, ()
        pairs = list(zip(run.messages, run.ids, strict=True))
        return [one for one, name in pairs if name is not None], [one for one, name in pairs if name is None]


def _topic(decoded: Decoded) -> str:
    return decoded[0].topic


def _refused(source_batch: SourceBatch, messages: Sequence[Message]) -> SourceBatch:
    """Return the same messages, all of them rejected; those that could not be read keep their reason."""
    unread = dict(source_batch.rejected)
    rejected = tuple(
        (index, unread.get(index) or Rejected("", NAMELESS, payload(message.value), message.line))
        for index, message in enumerate(messages)
    )
    return SourceBatch(source_batch.batch.slice(0, 0), rejected)
