"""Changes of the log as rows of a change table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from granary.cdc.mysql.decoder import DELETE, INSERT, OPS, TRUNCATE, UPDATE
from granary.cdc.mysql.values import kind_of
from granary.cdc.rows import Image, landing, source_names

if TYPE_CHECKING:
    from granary.cdc.mysql.decoder import Changes
    from granary.sources.spec import Table
    from granary.sources.units import SourceBatch


def source_batch(changes: Changes, table: Table) -> SourceBatch:
    """Return changes as rows of the change table.

    Args:
        changes: changes of one table.
        table: the contract of the table, not that of its change table.
    """
    names = source_names(table)
    columns = changes.table.columns
    by_name = {names[column.name]: place for place, column in enumerate(columns) if column.name in names}
    keyed = [by_name[name] for name in table.key if name in by_name]
    after = [changes.texts(place, changes.new) for place in range(len(columns))]
    before = {place: changes.texts(place, changes.old) for place in keyed}
    removed = pa.array(changes.ops == DELETE)
    key_before = _keys_before(changes, table, [before[place] for place in keyed], [after[place] for place in keyed])
    for place in keyed:
        after[place] = pc.if_else(removed, before[place], after[place])
    described = {
        "cdc_op": pa.array(OPS).take(pa.array(changes.ops)),
        "cdc_lsn": pa.array(changes.commit),
        "cdc_seq": pa.array(changes.seq),
        "cdc_xid": pa.array(changes.at_source),
        "cdc_committed_at": pa.array(changes.committed).cast(pa.timestamp("us", tz="UTC")),
        "cdc_key_before": key_before,
    }
    delivered = [
        Image(column.name, names.get(column.name), kind_of(column.words), image)
        for column, image in zip(columns, after, strict=True)
    ]
    whole = (changes.ops == INSERT) | (changes.ops == UPDATE)
    return landing(described, delivered, table, whole, changes.ops != TRUNCATE, {})


def _keys_before(changes: Changes, table: Table, before: list[pa.Array], after: list[pa.Array]) -> pa.Array:
    """Return, as JSON, the earlier keys of the rows whose update changed the key."""
    found: list[str | None] = [None] * len(changes.ops)
    updated = changes.ops == UPDATE
    if updated.any():
        moved = np.zeros(len(updated), bool)
        for was, now in zip(before, after, strict=True):
            moved |= pc.fill_null(pc.not_equal(was, now), False).to_numpy(zero_copy_only=False)
        for row in np.flatnonzero(moved & updated):
            key = {name: was[row].as_py() for name, was in zip(table.key, before, strict=True)}
            found[row] = json.dumps(key)
    return pa.array(found, pa.string())
