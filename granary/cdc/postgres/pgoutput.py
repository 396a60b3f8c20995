"""Decoding of `pgoutput`, the logical replication plug-in that every Postgres has, on whole columns at a time.

The messages of protocol version 1 are described in the Postgres manual, "Logical Replication Message Formats"
(https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html); numbers are big-endian. All rows of
one table have the same number of columns, so the rows are walked in step: the first column of all rows, then the
second, and so on. That is a few numpy operations for each column instead of some Python for each value.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from granary.cdc.pieces import big, gather
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pyarrow as pa

    from granary.cdc.pieces import Array

    Skip = Callable[[Array, Array], Array]

BEGIN, COMMIT, RELATION, INSERT, UPDATE, DELETE, TRUNCATE = (ord(letter) for letter in "BCRIUDT")
NEW, TEXT, NULL, UNCHANGED = (ord(letter) for letter in "Ntnu")
EPOCH = 946_684_800_000_000
"""Microseconds from 1970 to 2000, where Postgres counts from."""


@dataclass(frozen=True)
class RelationColumn:
    """One column of a table as the source has it; `key` if it is part of the replica identity."""

    name: str
    key: bool
    type_oid: int
    modifier: int


@dataclass(frozen=True)
class Relation:
    """A table as the source had it when a change was made; `identity` is d, n, f or i (pg_class.relreplident)."""

    oid: int
    schema: str
    name: str
    identity: str
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True)
class Tuples:
    """Row images of some rows of a run: where each value's text begins, how long it is, and what it is (t, n or u).

    `rows` are the places in the run; the other three hold one array of the same length for each column.
    """

    rows: Array
    starts: tuple[Array, ...]
    lengths: tuple[Array, ...]
    flags: tuple[Array, ...]


@dataclass(frozen=True)
class Changes:
    """Changes of one table in the order of their commits, all made while the table had the same columns.

    Per change: `ops` (the message's letter), the commit's `lsn` and `committed` time (microseconds since 1970), the
    transaction's `xid` and the change's place `seq` in it, from 1. `new` are images after the change, `old` those
    before it (the whole row or only its replica identity, as the table's identity says).
    """

    relation: Relation
    data: Array
    ops: Array
    lsn: Array
    committed: Array
    xid: Array
    seq: Array
    new: Tuples
    old: Tuples

    def texts(self, column: int, images: Tuples) -> pa.Array:
        """Return a column of some images as text; null where it is null, unchanged, or not among the images."""
        count = len(self.ops)
        starts, lengths, valid = np.zeros(count, np.int64), np.zeros(count, np.int64), np.zeros(count, bool)
        starts[images.rows] = images.starts[column]
        lengths[images.rows] = images.lengths[column]
        valid[images.rows] = images.flags[column] == TEXT
        return gather(self.data, starts, lengths, valid)

    def unchanged(self, column: int) -> Array:
        """Return the mask of the rows whose new image leaves a large value out because it did not change."""
        mask = np.zeros(len(self.ops), bool)
        mask[self.new.rows] = self.new.flags[column] == UNCHANGED
        return mask


@dataclass
class Transaction:
    """The transaction that a run of messages ends in the middle of."""

    lsn: int = 0
    committed: int = 0
    xid: int = 0
    seq: int = 0


@dataclass
class Decoder:
    """Turns runs of messages into changes; keeps what one run leaves to the next.

    `skip` gets the commit LSNs and the xids (both arrays) of transactions and returns which are to be left out;
    `skip_of` has such functions for single tables, by oid.
    `end` is the LSN after the last commit seen, `committed` its time (microseconds since 1970).
    """

    skip: Skip
    skip_of: Mapping[int, Skip] = field(default_factory=dict)
    relations: dict[int, Relation] = field(default_factory=dict)
    open: Transaction = field(default_factory=Transaction)
    end: int = 0
    committed: int = 0

    def feed(self, messages: pa.Array) -> list[Changes]:
        """Decode a run of messages (binary, none null), which may begin and end within a transaction.

        Raises:
            GranaryError: a message is not what the protocol says.
        """
        if not len(messages):
            return []
        data, starts = _bytes(messages)
        kinds = data[starts[:-1]]
        begins = np.flatnonzero(kinds == BEGIN)
        at = starts[begins] + 1
        owner = np.cumsum(kinds == BEGIN)
        lsn = np.concatenate([[self.open.lsn], big(data, at, 8)])
        committed = np.concatenate([[self.open.committed], big(data, at + 8, 8) + EPOCH])
        xid = np.concatenate([[self.open.xid], big(data, at + 16, 4)])
        changes = np.isin(kinds, (INSERT, UPDATE, DELETE, TRUNCATE))
        counted = np.cumsum(changes)
        seq = counted - np.concatenate([[-self.open.seq], counted[begins]])[owner]
        wanted = changes & ~self.skip(lsn, xid)[owner]
        found = []
        for run, relation in self._runs(data, starts, kinds, wanted):
            skip = self.skip_of.get(relation.oid)
            rows = run if skip is None else run[~skip(lsn, xid)[owner[run]]]
            if len(rows):
                found.append(self._changes(data, starts, kinds, rows, relation, (lsn, committed, xid), owner, seq))
        commits = np.flatnonzero(kinds == COMMIT)
        if len(commits):
            last = starts[commits[-1:]]
            self.end, self.committed = int(big(data, last + 10, 8)[0]), int(big(data, last + 18, 8)[0]) + EPOCH
        self.open = Transaction(int(lsn[-1]), int(committed[-1]), int(xid[-1]), int(seq[-1]))
        return found

    def _runs(self, data: Array, starts: Array, kinds: Array, wanted: Array) -> Iterator[tuple[Array, Relation]]:
        """Yield, for each table and each shape that it has in these messages, the messages that change it."""
        edges: dict[int, list[tuple[int, Relation]]] = {
            oid: [(-1, relation)] for oid, relation in self.relations.items()
        }
        for index in np.flatnonzero(kinds == RELATION):
            relation = parse_relation(data[starts[index] : starts[index + 1]].tobytes())
            shapes = edges.setdefault(relation.oid, [])
            if not shapes or shapes[-1][1] != relation:
                shapes.append((int(index), relation))
            self.relations[relation.oid] = relation
        truncated: dict[int, list[int]] = {}
        for index in np.flatnonzero(wanted & (kinds == TRUNCATE)):
            at = int(starts[index])
            for oid in big(data, at + 6 + 4 * np.arange(big(data, np.array([at + 1]), 4)[0]), 4):
                truncated.setdefault(int(oid), []).append(int(index))
        rows = np.flatnonzero(wanted & (kinds != TRUNCATE))
        oids = big(data, starts[rows] + 1, 4)
        for oid in sorted({*np.unique(oids).tolist(), *truncated}):
            if oid not in edges:
                raise GranaryError(f"a change of a table that was not announced (oid {oid})", "pgoutput")
            mine = np.sort(np.concatenate([rows[oids == oid], np.array(truncated.get(oid, []), np.int64)]))
            shapes = edges[oid]
            bounds = [*(first for first, _ in shapes[1:]), len(kinds)]
            for (first, relation), end in zip(shapes, bounds, strict=True):
                run = mine[(mine > first) & (mine < end)]
                if len(run):
                    yield run, relation

    def _changes(
        self,
        data: Array,
        starts: Array,
        kinds: Array,
        rows: Array,
        relation: Relation,
        transactions: tuple[Array, Array, Array],
        owner: Array,
        seq: Array,
    ) -> Changes:
        ops = kinds[rows]
        width = len(relation.columns)
        places = np.flatnonzero(ops != TRUNCATE)
        at = starts[rows[places]] + 5
        before = data[at] != NEW
        old, ends = walk(data, at[before] + 1, width, places[before])
        at[before] = ends
        after = ops[places] != DELETE
        new, _ = walk(data, at[after] + 1, width, places[after])
        lsn, committed, xid = (values[owner[rows]] for values in transactions)
        return Changes(relation, data, ops, lsn, committed, xid, seq[rows], new, old)


def walk(data: Array, at: Array, width: int, rows: Array) -> tuple[Tuples, Array]:
    """Walk TupleData of many rows in step.

    Args:
        data: the bytes.
        at: where each row's TupleData begins.
        width: columns that each row must have.
        rows: the rows' places, kept in the result.

    Returns:
        The images, and where each one ends.

    Raises:
        GranaryError: a row has another number of columns, or a column is of a kind that version 1 in text lacks.
    """
    starts, lengths, flags = [], [], []
    if np.any(big(data, at, 2) != width):
        raise GranaryError(f"a row does not have the {width} columns that were announced", "pgoutput")
    at = at + 2
    for _ in range(width):
        flag = data.take(at, mode="clip")
        text = flag == TEXT
        if not np.all(text | (flag == NULL) | (flag == UNCHANGED)):
            raise GranaryError("a value is neither text nor null nor unchanged", "pgoutput")
        length = np.where(text, big(data, at + 1, 4), 0)
        starts.append(at + 5)
        lengths.append(length)
        flags.append(flag)
        at = at + 1 + np.where(text, 4 + length, 0)
    if len(at) and at.max() > len(data):
        raise GranaryError("a message ends within a value", "pgoutput")
    return Tuples(rows, tuple(starts), tuple(lengths), tuple(flags)), at


def parse_relation(message: bytes) -> Relation:
    """Return the table that a Relation message announces."""
    oid = struct.unpack_from(">I", message, 1)[0]
    schema, at = _name(message, 5)
    name, at = _name(message, at)
    identity, count = struct.unpack_from(">cH", message, at)
    at += 3
    columns = []
    for _ in range(count):
        flags = message[at]
        column, at = _name(message, at + 1)
        type_oid, modifier = struct.unpack_from(">Ii", message, at)
        at += 8
        columns.append(RelationColumn(column, bool(flags & 1), type_oid, modifier))
    return Relation(oid, schema or "pg_catalog", name, identity.decode(), tuple(columns))


def _name(message: bytes, at: int) -> tuple[str, int]:
    """Return the zero-terminated string at a place, and the place after it."""
    end = message.index(0, at)
    return message[at:end].decode(), end + 1


def _bytes(messages: pa.Array) -> tuple[Array, Array]:
    """Return the bytes of a binary column, and where each value begins; one more place for the end of the last."""
    offsets = np.frombuffer(messages.buffers()[1], np.int32)[messages.offset : messages.offset + len(messages) + 1]
    data = np.frombuffer(messages.buffers()[2], np.uint8)
    return data, offsets.astype(np.int64)
