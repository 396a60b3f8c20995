"""Changes as rows of a change table: text columns for the load seam, with unchanged large values found again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from granary.cdc.catalog import source_names
from granary.cdc.pgoutput import DELETE, INSERT, TEXT, TRUNCATE, UPDATE, Tuples
from granary.load.types import cast
from granary.sources.units import Rejected, SourceBatch
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from granary.cdc.pgoutput import Array, Changes
    from granary.sources.spec import Column, Table

    Key = tuple[str | None, ...]
    Stored = Callable[[list[Key], Sequence[str]], Mapping[Key, tuple[str | None, ...]]]

OPS = {INSERT: "insert", UPDATE: "update", DELETE: "delete", TRUNCATE: "truncate"}
NAMES = pa.array([OPS.get(code) for code in range(128)])

TYPES = {
    16: pa.bool_(),
    20: pa.int64(),
    21: pa.int64(),
    23: pa.int64(),
    700: pa.float64(),
    701: pa.float64(),
    1082: pa.date32(),
    1114: pa.timestamp("us"),
    1184: pa.timestamp("us", tz="UTC"),
}
"""Arrow types of built-in types (pg_type.oid) for columns that no contract names; others stay text."""
BYTEA, TEXT_OID = 17, 25

NOT_HERE = "did not change, and its value is not here"
"""Why a change is refused whose large value nobody has."""

Broken = dict[int, tuple[str, str]]
"""Rows that cannot be loaded: place -> column and reason."""


@dataclass(frozen=True)
class Image:
    """A column as delivered: its name at the source, what the contract calls it, its type, and its texts."""

    name: str
    known_as: str | None
    type_oid: int
    texts: pa.Array


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
        "cdc_op": NAMES.take(pa.array(changes.ops)),
        "cdc_lsn": pa.array(changes.lsn),
        "cdc_seq": pa.array(changes.seq),
        "cdc_xid": pa.array(changes.xid),
        "cdc_committed_at": pa.array(changes.committed).cast(pa.timestamp("us", tz="UTC")),
        "cdc_key_before": pa.array(key_before, pa.string()),
    }
    delivered = [
        Image(column.name, names.get(column.name), column.type_oid, image)
        for column, image in zip(columns, images, strict=True)
    ]
    whole = (changes.ops == INSERT) | (changes.ops == UPDATE)
    return landing(described, delivered, table, whole, changes.ops != TRUNCATE, broken)


def landing(
    described: Mapping[str, pa.Array],
    delivered: Sequence[Image],
    table: Table,
    whole: Array,
    keyed: Array,
    broken: Broken,
) -> SourceBatch:
    """Return rows for the seam: those that lack what they must have are rejected, the others are text to be parsed.

    Args:
        described: the columns that say what happened.
        delivered: the columns of the table.
        table: the contract of the table.
        whole: mask of the rows that hold a whole image; in them, what must not be null is not.
        keyed: mask of the rows that hold at least a key.
        broken: rows that are rejected already; more are added.
    """
    if taken := described.keys() & {image.name for image in delivered}:
        raise GranaryError(f"the source has a column {min(taken)}, which is the change table's own", table.location)
    values = {image.name: _typed(image, broken) for image in delivered}
    by_name = {image.known_as: image for image in delivered}
    for column in table.columns:
        if column.nullable:
            continue
        must = keyed if column.name in table.key else whole
        image = by_name.get(column.name)
        absent = must if image is None else must & image.texts.is_null().to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(absent):
            broken.setdefault(int(row), (column.name, "is null"))
    batch = pa.RecordBatch.from_pydict({**described, **values})
    if not broken:
        return SourceBatch(batch, text=True)
    original = pa.RecordBatch.from_pydict({**described, **{image.name: image.texts for image in delivered}})
    rejected = tuple((row, Rejected(*broken[row], original.slice(row, 1).to_pylist()[0])) for row in sorted(broken))
    keep = np.ones(batch.num_rows, bool)
    keep[list(broken)] = False
    return SourceBatch(batch.filter(pa.array(keep)), rejected, text=True)


def key_values(columns: Sequence[tuple[Column, int]], texts: Sequence[pa.Array]) -> pa.RecordBatch:
    """Return keys that came as text, in the contract's types; one that the contract does not take is null.

    Args:
        columns: the columns of the key, and the type of each at the source (pg_type.oid).
        texts: their values.
    """
    values = [
        _bytes(given) if oid == BYTEA else cast(given, column.type, text=True)[0]
        for (column, oid), given in zip(columns, texts, strict=True)
    ]
    return pa.RecordBatch.from_arrays(values, names=[column.name for column, _ in columns])


def _bytes(texts: pa.Array) -> pa.Array:
    return pa.array([None if text is None else bytes.fromhex(text[2:]) for text in texts.to_pylist()], pa.binary())


def _typed(image: Image, broken: Broken) -> pa.Array:
    """Parse what the seam would not: bytes, which Postgres writes in hex, and columns that no contract names."""
    if image.type_oid == BYTEA:
        return _bytes(image.texts)
    if image.known_as is not None or image.type_oid not in TYPES:
        return image.texts
    values, misfits = cast(image.texts, TYPES[image.type_oid], text=True)
    if misfits is not None:
        for row in pc.indices_nonzero(misfits).to_pylist():
            broken.setdefault(row, (image.name, f"is not a valid {values.type}"))
    return values


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
