"""Sets of global transaction ids, of MariaDB (0-1-17) and of MySQL (uuid:1-17): which transactions are stored."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

from granary.warehouse.errors import GranaryError

MARIADB = re.compile(r"(\d+)-(\d+)-(\d+)")
MYSQL = re.compile(r"([0-9a-f-]{36})((?::\d+(?:-\d+)?)+)")

Runs: TypeAlias = tuple[tuple[int, int], ...]
"""Transactions of one server, as runs of numbers: the first one and the last one of each, in order."""


@dataclass(frozen=True)
class Gtid:
    """One transaction: its number among those of its `group`, a domain of MariaDB or a server (UUID) of MySQL.

    `server` is that which committed it, in MariaDB; MySQL has it in the group.
    """

    group: str
    number: int
    server: int = 0


@dataclass(frozen=True)
class GtidSet:
    """Which transactions are stored. MariaDB numbers those of a domain in order, so the last one says it all."""

    last: dict[str, Gtid] = field(default_factory=dict)
    runs: dict[str, Runs] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> GtidSet:
        """Return the set that a server (or `str`) writes.

        Raises:
            GranaryError: it is of neither form, such as the tagged ids of MySQL 8.3 and newer.
        """
        last: dict[str, Gtid] = {}
        runs: dict[str, Runs] = {}
        for item in filter(None, (part.strip().lower() for part in text.split(","))):
            if found := MARIADB.fullmatch(item):
                last[found[1]] = Gtid(found[1], int(found[3]), int(found[2]))
            elif found := MYSQL.fullmatch(item):
                ends = [run.split("-") for run in found[2][1:].split(":")]
                runs[found[1]] = tuple((int(run[0]), int(run[-1])) for run in ends)
            else:
                raise GranaryError(f"{item!r} is no global transaction id that is known here", "binary log")
        return cls(last, runs)

    def __str__(self) -> str:
        """Return the set as its server writes it."""
        mine = [f"{one.group}-{one.server}-{one.number}" for _, one in sorted(self.last.items())]
        theirs = [
            ":".join([group, *(f"{low}-{high}" if high > low else f"{low}" for low, high in runs)])
            for group, runs in sorted(self.runs.items())
        ]
        return ",".join([*mine, *theirs])

    def __contains__(self, one: Gtid) -> bool:
        """Return whether a transaction is in the set."""
        if one.group in self.last:
            return one.number <= self.last[one.group].number
        return any(low <= one.number <= high for low, high in self.runs.get(one.group, ()))

    def holds(self, other: GtidSet) -> bool:
        """Return whether every transaction of another set is in this one."""
        return all(one in self for one in other.last.values()) and all(
            any(low <= first and last <= high for low, high in self.runs.get(group, ()))
            for group, runs in other.runs.items()
            for first, last in runs
        )

    def add(self, one: Gtid) -> None:
        """Put a transaction into the set."""
        if one.server:
            self.last[one.group] = one
            return
        runs = self.runs.get(one.group, ())
        if runs and runs[-1][1] + 1 == one.number:
            self.runs[one.group] = (*runs[:-1], (runs[-1][0], one.number))
        elif one not in self:
            self.runs[one.group] = _joined((*runs, (one.number, one.number)))

    def copy(self) -> GtidSet:
        """Return a set of its own with the same transactions."""
        return GtidSet(dict(self.last), dict(self.runs))

    def encoded(self) -> bytes:
        """Return a set of MySQL's as COM_BINLOG_DUMP_GTID takes it: each run from its first number to before another.

        See Gtid_set::encode in MySQL's sql/rpl_gtid_set.cc.
        """
        found = [struct.pack("<Q", len(self.runs))]
        for group, runs in sorted(self.runs.items()):
            found += [UUID(group).bytes, struct.pack("<Q", len(runs))]
            found += [struct.pack("<QQ", low, high + 1) for low, high in runs]
        return b"".join(found)


def _joined(runs: Runs) -> Runs:
    """Return runs in order, those that touch as one."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(runs):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(high, found[-1][1]))
        else:
            found.append((low, high))
    return tuple(found)
