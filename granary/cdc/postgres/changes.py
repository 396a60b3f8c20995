"""Changes of a slot as rows of a change table, with unchanged large values found again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from granary.cdc.postgres.pgoutput import DELETE, INSERT, TEXT, TRUNCATE, UPDATE, Tuples
from granary.cdc.rows import BYTES, NOT_HERE, Broken, Image, landing, source_names

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from granary.cdc.pieces import Array
    from granary.cdc.postgres.pgoutput import Changes
    from granary.cdc.rows import Key
    from granary.sources.spec import Table
    from granary.sources.units import SourceBatch

    Stored = Callable[[list[Key], Sequence[str]], Mapping[Key, tuple[str | None, ...]]]

OPS = {INSERT: "insert", UPDATE: "update", DELETE: "delete", TRUNCATE: "truncate"}
NAMES = [OPS.get(code) for code in range(128)]

KINDS = {
    16: pa.bool_(),
    17: BYTES,
    20: pa.int64(),
    21: pa.int64(),
    23: pa.int64(),
    700: pa.float64(),
    701: pa.float64(),
    1082: pa.date32(),
    1114: pa.timestamp("us"),
    1184: pa.timestamp("us", tz="UTC"),
}
"""Kinds of built-in types (pg_type.oid); all others are text."""


def source_batch(changes: Changes, table: Table, stored: Stored) -> SourceBatch:
    """Return changes as rows of the change table.

    Args:
        changes: changes of one table.
        table: the contract of the table, not that of its change table.
        stored: returns the texts of some columns of the current table by key; asked only where an update leaves a
            large value out that no earlier change of the run has.
    """
    names = source_names(table)
    columns = changes.relation.columns
    positions = {names[column.name]: i for i, column in enumerate(columns) if column.name in names}
    keyed = [positions[name] for name in table.key]
    removed = _only(changes.old, changes.ops[changes.old.rows] == DELETE)
    images = [changes.texts(i, changes.new) for i in range(len(columns))]
    for i in keyed:
        images[i] = pc.coalesce(images[i], changes.texts(i, removed)) if len(removed.rows) else images[i]
    before = _keys_before(changes, keyed, images)
    broken: Broken = {}
    _restore(changes, table, keyed, images, before, stored, broken)
    key_before = [None] * len(changes.ops)
    for row, key in before.items():
        key_before[row] = json.dumps(dict(zip(table.key, key, strict=True)))  # type: ignore[call-overload]
    described = {
        "cdc_op": pa.array(NAMES).take(pa.array(changes.ops)),
        "cdc_lsn": pa.array(changes.lsn),
        "cdc_seq": pa.array(changes.seq),
        "cdc_xid": pa.array(changes.xid),
        "cdc_committed_at": pa.array(changes.committed).cast(pa.timestamp("us", tz="UTC")),
        "cdc_key_before": pa.array(key_before, pa.string()),
    }
    delivered = [
        Image(column.name, names.get(column.name), KINDS.get(column.type_oid), image)
        for column, image in zip(columns, images, strict=True)
    ]
    whole = (changes.ops == INSERT) | (changes.ops == UPDATE)
    return landing(described, delivered, table, whole, changes.ops != TRUNCATE, broken)


def _only(images: Tuples, mask: Array) -> Tuples:
    """Return some of the images."""
    return Tuples(
        images.rows[mask],
        tuple(starts[mask] for starts in images.starts),
        tuple(lengths[mask] for lengths in images.lengths),
        tuple(flags[mask] for flags in images.flags),
    )


def _keys_before(changes: Changes, keyed: list[int], images: list[pa.Array]) -> dict[int, Key]:
    """Return the earlier keys of the rows whose update changed the key."""
    updated = _only(changes.old, changes.ops[changes.old.rows] == UPDATE)
    if not len(updated.rows):
        return {}
    old = [changes.texts(i, updated).take(pa.array(updated.rows)) for i in keyed]
    new = [images[i].take(pa.array(updated.rows)) for i in keyed]
    moved = np.zeros(len(updated.rows), bool)
    for i, was, now in zip(keyed, old, new, strict=True):
        differs = pc.fill_null(pc.not_equal(was, now), True).to_numpy(zero_copy_only=False)
        moved |= differs & (updated.flags[i] == TEXT) & ~changes.unchanged(i)[updated.rows]
    places = np.flatnonzero(moved)
    keys = zip(*(texts.take(pa.array(places)).to_pylist() for texts in old), strict=True)
    return dict(zip(updated.rows[places].tolist(), keys, strict=True))


def _restore(
    changes: Changes,
    table: Table,
    keyed: list[int],
    images: list[pa.Array],
    before: dict[int, Key],
    stored: Stored,
    broken: Broken,
) -> None:
    """Put large values back that updates left out because they did not change (TOAST).

    A value is found in the row's image before the change (replica identity full), else in the latest image of the
    row among the changes before it, else in the current table. Where it is nowhere, the row is broken: it is never
    taken for null.
    """
    missing = [i for i in range(len(images)) if changes.unchanged(i).any()]
    masks = {}
    for i in missing:
        had = np.zeros(len(changes.ops), bool)
        had[changes.old.rows] = changes.old.flags[i] == TEXT
        left_out = changes.unchanged(i)
        images[i] = pc.if_else(pa.array(left_out & had), changes.texts(i, changes.old), images[i])
        masks[i] = left_out & ~had
    missing = [i for i in missing if masks[i].any()]
    if not missing:
        return
    keys: list[Key] = list(zip(*(images[i].to_pylist() for i in keyed), strict=True))
    traced = {i: trace(changes.ops, keys, before, masks[i]) for i in missing}
    wanted = sorted({found for trail in traced.values() for found in trail if isinstance(found, tuple)} - {()}, key=str)
    names = source_names(table)
    known = {i: names.get(changes.relation.columns[i].name, changes.relation.columns[i].name) for i in missing}
    there = stored(wanted, list(known.values())) if wanted else {}
    index = {key: len(keys) + place for place, key in enumerate(there)}
    for position, i in enumerate(missing):
        pool = pa.concat_arrays([images[i], pa.array([row[position] for row in there.values()], pa.string())])
        sources = np.arange(len(keys))
        for row, found in enumerate(traced[i]):
            if isinstance(found, tuple) and found not in index:
                broken.setdefault(row, (known[i] or "", NOT_HERE))
            elif found is not None:
                sources[row] = index[found] if isinstance(found, tuple) else found
        images[i] = pool.take(pa.array(sources))


def trace(ops: Array, keys: Sequence[Key], before: Mapping[int, Key], masked: Array) -> list[int | Key | None]:
    """Find out, for one column, where each left-out value is: a row of the run, or else the key of a stored row.

    Args:
        ops: what each row is.
        keys: each row's key after the change (before it, for a delete).
        before: keys before the change, of the rows whose key changed.
        masked: which rows leave the value out.

    Returns:
        Per row: None where nothing is left out, the place of the row that has the value, or the key under which
        it is stored; () if it is nowhere.
    """
    holder: dict[Key, int | Key] = {}
    found: list[int | Key | None] = [None] * len(keys)
    emptied = False
    for row, (op, key) in enumerate(zip(ops.tolist(), keys, strict=True)):
        if op == TRUNCATE:
            holder.clear()
            emptied = True
        elif op == DELETE:
            holder.pop(key, None)
        elif masked[row]:
            was = before.get(row, key)
            source = holder.pop(was, () if emptied else was)
            found[row] = holder[key] = source
        else:
            if row in before:
                holder.pop(before[row], None)
            holder[key] = row
    return found
