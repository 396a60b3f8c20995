"""What of a table's changes has landed already: by their place in the source's log, whatever Kafka counts.

Debezium sends changes again after it was restarted, from the place that it wrote down last. In a partition of Kafka
they come in the log's order. So a change beyond the last place that landed is new; of what lies before it, the change
table says whether it is there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from granary.cdc.current_table import changes_target
from granary.cdc.rows import BYTES, key_values
from granary.warehouse.binary_copy import copy_into_new
from granary.warehouse.connection import quote_name
from granary.warehouse.records import LOAD_ID, Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.cdc.rows import Key
    from granary.sources.spec import Source, Table
    from granary.streams.debezium.envelope import Event
    from granary.warehouse.writer import LoadTransaction

Order = tuple[int, int, int]


class Asked(NamedTuple):
    """A change that the warehouse may have: its place in the run, and the first load to look at."""

    at: int
    event: Event
    key: Key
    since: int


MARKS = 32
"""Loads of which a partition's state knows the place, so that little of the change table is looked at."""


@dataclass
class Era:
    """How far an era has landed in a partition: the last place, its first load, and the places of earlier loads."""

    high: Order
    since: int
    marks: list[tuple[Order, int]] = field(default_factory=list)

    def floor(self, order: Order) -> int:
        """Return the first load that may hold a change at a place."""
        return max((load for at, load in self.marks if at < order), default=0)


@dataclass
class Known:
    """The eras of one partition, as they are kept in the table's watermark."""

    eras: dict[str, Era]

    @classmethod
    def parse(cls, text: str | None) -> Known:
        """Return what `dump` wrote."""
        return cls(
            {
                name: Era(tuple(high), since, [(tuple(at), load) for at, load in marks])
                for name, (high, since, marks) in json.loads(text or "{}").items()
            }
        )

    def dump(self) -> str:
        """Return it as text."""
        return json.dumps({name: [era.high, era.since, era.marks] for name, era in self.eras.items()})

    def landed(self, high: dict[str, Order], load_id: int) -> None:
        """Note how far a load went."""
        for name, order in high.items():
            era = self.eras.get(name)
            if era is None:
                self.eras[name] = Era(order, load_id, [])
            elif order > era.high:
                marks = [*era.marks, (era.high, era.since)][-MARKS:]
                self.eras[name] = Era(order, load_id, marks)


@dataclass(frozen=True)
class Sifted:
    """The changes of a run: those that are new, how many are not, and those of which nobody knows what they are."""

    new: list[Event]
    again: int
    strange: list[Event]
    high: dict[str, Order]


def sift(tx: LoadTransaction, source: Source, table: Table, known: Known, given: Sequence[tuple[Event, Key]]) -> Sifted:
    """Tell the changes of a run that are new from those that have landed.

    Args:
        tx: the source's transaction.
        source: the source of the table.
        table: the contract of the captured table.
        known: how far its partition has landed.
        given: the changes in their order, each with its key as text.
    """
    high = {name: era.high for name, era in known.eras.items()}
    seen: set[tuple[Any, ...]] = set()
    again = 0
    new: list[tuple[int, Event]] = []
    asked: list[Asked] = []
    for at, (event, key) in enumerate(given):
        identity = (event.era, event.order, event.op, key)
        era = known.eras.get(event.era)
        if identity in seen or (era is not None and event.number < era.high[0]):
            again += 1
            continue
        seen.add(identity)
        if era is not None and event.order <= era.high:
            since = era.since if event.order == era.high else era.floor(event.order)
            asked.append(Asked(at, event, key, since))
            continue
        new.append((at, event))
        high[event.era] = max(event.order, high.get(event.era, event.order))
    there = _there(tx, source, table, [one for one in asked if not _is_copied(known, one.event)])
    there |= _copied(tx, source, table, [one for one in asked if _is_copied(known, one.event)])
    strange = []
    for at, event, _, _ in asked:
        if at in there:
            again += 1
        elif event.op == "snapshot" or event.order == known.eras[event.era].high:
            new.append((at, event))
        else:
            strange.append(event)
    return Sifted([event for _, event in sorted(new, key=lambda one: one[0])], again, strange, high)


def _is_copied(known: Known, event: Event) -> bool:
    """Return whether a change is a row of a copy, all of which lie at one place."""
    return event.op == "snapshot" and event.order == known.eras[event.era].high


def _asked(tx: LoadTransaction, table: Table, asked: Sequence[Asked]) -> str:
    """Bring changes into a temporary table; return SQL that compares their keys with those of a table `t`.

    A key that the contract does not take is null there, and in no table.
    """
    columns = {column.name: column for column in table.columns}
    typed = [(columns[name], BYTES if pa.types.is_binary(columns[name].type) else None) for name in table.key]
    texts = [pa.array(values, pa.string()) for values in zip(*(one.key for one in asked), strict=True)]
    names = [f"key_{number}" for number in range(len(texts))]
    places = {
        "at": pa.array([one.at for one in asked], pa.int64()),
        "lsn": pa.array([one.event.place[0] for one in asked], pa.int64()),
        "seq": pa.array([one.event.place[1] for one in asked], pa.int64()),
        "op": pa.array([one.event.op for one in asked], pa.string()),
        "since": pa.array([one.since for one in asked], pa.int64()),
    }
    staged = pa.table({**places, **dict(zip(names, key_values(typed, texts).columns, strict=True))})
    copy_into_new(tx.connection, "cdc_asked", staged.schema, staged.to_batches())
    return " and ".join(f"t.{quote_name(key)} = a.{name}" for key, name in zip(table.key, names, strict=True))


def _there(tx: LoadTransaction, source: Source, table: Table, asked: Sequence[Asked]) -> set[int]:
    """Return which changes are in the change table."""
    changes = changes_target(source, table)
    if not asked or not tx.columns(changes):
        return set()
    same = _asked(tx, table, asked)
    low = min(one.since for one in asked)
    found = tx.query(
        f"select a.at from cdc_asked as a inner join {changes.sql_name} as t on t.{LOAD_ID} >= {int(low)}"
        f" and t.cdc_lsn = a.lsn and t.cdc_seq = a.seq and t.cdc_op = a.op and (a.op = 'truncate' or ({same}))"
    )
    tx.execute("drop table cdc_asked")
    return {int(at) for (at,) in found}


def _copied(tx: LoadTransaction, source: Source, table: Table, asked: Sequence[Asked]) -> set[int]:
    """Return which rows of a copy are in the current table since it began."""
    target = Target(source.name, table.name, table.schema, table.key)
    if not asked or not tx.columns(target):
        return set()
    same = _asked(tx, table, asked)
    found = tx.query(
        f"select a.at from cdc_asked as a inner join {target.sql_name} as t on {same} and t.{LOAD_ID} >= a.since"
    )
    tx.execute("drop table cdc_asked")
    return {int(at) for (at,) in found}


def vanished(tx: LoadTransaction, target: Target, load_id: int) -> list[Key]:
    """Return, as text, the keys of the rows that no change has touched since a load."""
    if not tx.columns(target):
        return []
    names = ", ".join(f"{quote_name(name)}::text" for name in target.key)
    return [tuple(row) for row in tx.query(f"select {names} from {target.sql_name} where {LOAD_ID} < {int(load_id)}")]
