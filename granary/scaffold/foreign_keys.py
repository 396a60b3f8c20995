"""Which columns of a source's tables hold the keys of another one: every value that was seen is among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from granary.scaffold.names import singular

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Parent:
    """The table and the raw column that a column's values are keys of."""

    table: str
    column: str


def parents(
    table: str, column: str, values: pa.ChunkedArray, keys: Mapping[str, tuple[str, pa.ChunkedArray]]
) -> Parent | None:
    """Return the key that a column refers to by its name and all its values, or None.

    Args:
        table: the column's table.
        column: its raw name: station_id, start_station_id, or station.
        values: what was seen of it.
        keys: each other table's key, its name and all its values.
    """
    distinct = pc.unique(values.drop_null())
    if not len(distinct):
        return None
    for other, (key, known) in keys.items():
        if other == table or known.type != distinct.type or not refers(column, other, key):
            continue
        if pc.all(pc.is_in(distinct, pc.unique(known))).as_py():
            return Parent(other, key)
    return None


def refers(column: str, table: str, key: str) -> bool:
    """Return whether a column's name says that it holds a table's key.

    It ends with the key's own name, as from_station_id does with station_id, where that names more than `id` or `key`
    alone; or with the table's name before such a word; or it is the table's name.
    """
    entity = singular(table)
    bare = key in ("id", "key", "code", "number", "no", "name")
    whole = {f"{entity}_{key}", entity} if bare else {key, entity}
    tail = key.rpartition("_")[2]  # o_orderkey and l_orderkey
    if not bare and tail not in ("id", "key", "code", "number", "no", "name"):
        whole.add(tail)
    return any(column == name or column.endswith(f"_{name}") for name in whole)
