"""Rows of a change table: text columns for the load seam, whatever log the changes are from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from granary.load.types import cast
from granary.sources.units import Rejected, SourceBatch
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.cdc.pieces import Array
    from granary.sources.spec import Column, Table

    Key = tuple[str | None, ...]

NOT_HERE = "did not change, and its value is not here"
"""Why a change is refused whose large value nobody has."""

Broken = dict[int, tuple[str, str]]
"""Rows that cannot be loaded: place -> column and reason."""

BYTES = pa.binary()
"""The kind of a column whose texts are bytes in hex, as Postgres writes them: \\x00ff."""


@dataclass(frozen=True)
class Image:
    """A column as delivered: its name at the source, what the contract calls it, its kind, and its texts.

    The kind is the type that it gets where no contract names it; None is text.
    """

    name: str
    known_as: str | None
    kind: pa.DataType | None
    texts: pa.Array


def source_names(table: Table) -> dict[str, str]:
    """Return under which names columns may come: delivered name -> the contract's name."""
    return {name: column.name for column in table.columns for name in (column.name, *column.aliases)}


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


def key_values(columns: Sequence[tuple[Column, pa.DataType | None]], texts: Sequence[pa.Array]) -> pa.RecordBatch:
    """Return keys that came as text, in the contract's types; one that the contract does not take is null.

    Args:
        columns: the columns of the key, and the kind of each at the source.
        texts: their values.
    """
    values = [
        _bytes(given) if kind == BYTES else cast(given, column.type, text=True)[0]
        for (column, kind), given in zip(columns, texts, strict=True)
    ]
    return pa.RecordBatch.from_arrays(values, names=[column.name for column, _ in columns])


def _bytes(texts: pa.Array) -> pa.Array:
    return pa.array([None if text is None else bytes.fromhex(text[2:]) for text in texts.to_pylist()], pa.binary())


def _typed(image: Image, broken: Broken) -> pa.Array:
    """Parse what the seam would not: bytes in hex, and columns that no contract names."""
    if image.kind == BYTES:
        return _bytes(image.texts)
    if image.known_as is not None or image.kind is None:
        return image.texts
    values, misfits = cast(image.texts, image.kind, text=True)
    if misfits is not None:
        for row in pc.indices_nonzero(misfits).to_pylist():
            broken.setdefault(row, (image.name, f"is not a valid {values.type}"))
    return values
