"""What a reader hands over: units, their rows as Arrow batches, what it could not read, and what it left."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from granary.warehouse.records import Change


@dataclass(frozen=True)
class Unit:
    """The smallest thing that is loaded and replaced whole: a file, one collection's pages, a cursor window.

    `fingerprint` tells whether the unit's content changed since it was loaded. Where finding it out means reading the
    content, `version` is a cheap identity (size and times of a file, an ETag) that the ledger is asked first, and
    `content` returns the fingerprint, called only for a version that the ledger does not know. A unit without all
    three is new by nature (a window past a cursor). `problem` says why something that lies among the units is none,
    such as a link that leads elsewhere: it is quarantined without being opened.
    """

    name: str
    fingerprint: str | None = None
    bytes: int = 0
    date: date | None = None
    version: str | None = None
    content: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    problem: str = ""


def order(name: str) -> tuple[tuple[str | int, ...], str]:
    """Return what units are sorted by: their names, with the numbers in them by value, so that 9 is before 10."""
    parts = re.split(r"([0-9]+)", name)
    return tuple(int(part) if place % 2 else part for place, part in enumerate(parts)), name


class UnreadableError(GranaryError):
    """A unit is damaged or not of its kind: it is quarantined whole, the others land."""


class StillWrittenError(GranaryError):
    """A unit changed, or went, while it was read: it is left for the next load, and the others land."""


class UnreachableError(GranaryError):
    """A unit could not be read for a reason that is not in its content: no permission, a full disk, no known format.

    Nothing is said of the unit: its load fails, the others land, and the next load reads it.
    """


@dataclass(frozen=True)
class NotLoaded:
    """Something in the source's place that a load did not take, and why.

    passed over: no table of the source takes it. waiting: a later load will, such as a file that is still written.
    duplicate: its content has landed under another name. unreadable: it is in quarantine. failed: it is not, and the
    load failed for it.
    """

    unit: str
    outcome: Literal["passed over", "waiting", "duplicate", "unreadable", "failed"]
    reason: str


@dataclass(frozen=True)
class Rejected:
    """A row that a reader could not turn into Arrow: the column at fault ('' if the whole row), why, and the row.

    `line` is where a person finds it, if that is not its place among the rows: a physical line, an offset.
    """

    column: str
    reason: str
    payload: dict[str, Any]
    line: int | None = None


@dataclass(frozen=True)
class SourceBatch:
    """A run of consecutive rows of a unit: those that are Arrow, and by their index in the run those that are not.

    With `text`, string columns hold what was received and are parsed to the contract's types. `line` is the physical
    line (or offset) of the run's first row, where each row is one line. `notes` are what the reader had to guess, or
    left unread.
    """

    batch: pa.RecordBatch
    rejected: tuple[tuple[int, Rejected], ...] = ()
    text: bool = False
    line: int | None = None
    notes: tuple[Change, ...] = ()

    @property
    def rows(self) -> int:
        """Rows in the run, rejected ones included."""
        return int(self.batch.num_rows) + len(self.rejected)

    def places(self, first: int) -> pa.Array:
        """Return the place of each row of the batch in its unit (int32), if the run begins at place `first`."""
        every = pa.arange(first, first + self.rows).cast(pa.int32())
        if not self.rejected:
            return every
        gone = {index for index, _ in self.rejected}
        return every.filter(pa.array([index not in gone for index in range(self.rows)]))
