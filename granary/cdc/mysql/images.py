"""Rows of the log, walked in step: the first row of every event at once, column by column, then the second, and so on.

A row does not say how long it is, so that one has to be read to find the next. Events have some 8 kB of rows
(`binlog_row_event_max_size`), and a batch has hundreds or thousands of them: a few numpy operations for each column and
step, instead of some Python for each value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from granary.cdc.pieces import little
from granary.warehouse.errors import GranaryError

if TYPE_CHECKING:
    from granary.cdc.mysql.table_map import LogTable
    from granary.cdc.pieces import Array


@dataclass(frozen=True)
class Images:
    """Images of some rows: where each value begins, how long it is, and whether there is one; arrays per column."""

    starts: tuple[Array, ...]
    lengths: tuple[Array, ...]
    valid: tuple[Array, ...]

    def take(self, places: Array) -> Images:
        """Return some of the images, in another order."""
        return Images(*(tuple(each[places] for each in every) for every in (self.starts, self.lengths, self.valid)))

    @classmethod
    def joined(cls, parts: list[Images]) -> Images:
        """Return images of several runs as those of one."""
        return cls(
            *(
                tuple(np.concatenate(each) for each in zip(*(getattr(part, name) for part in parts), strict=True))
                for name in ("starts", "lengths", "valid")
            )
        )


def walk(
    data: Array, begins: Array, ends: Array, table: LogTable, *, pairs: bool
) -> tuple[Array, Images, Images | None]:
    """Walk the rows of some events of one table.

    Args:
        data: the bytes.
        begins: where the rows of each event begin.
        ends: where they end.
        table: what the rows are of.
        pairs: each row is an image before a change and one after it.

    Returns:
        The place of each row's event, in order, and the images: the first of each row, and the second if there are two.

    Raises:
        GranaryError: an event does not end where a row does.
    """
    at, live = begins.copy(), np.flatnonzero(begins < ends)
    events, firsts, seconds = [], [], []
    while len(live):
        first, following = _image(data, at[live], table)
        events.append(live)
        firsts.append(first)
        if pairs:
            second, following = _image(data, following, table)
            seconds.append(second)
        at[live] = following
        if np.any(following > ends[live]):
            raise GranaryError("an event ends within a row", f"{table.schema}.{table.name}")
        live = live[following < ends[live]]
    owner = np.concatenate(events)
    order = np.argsort(owner, kind="stable")
    return (
        owner[order],
        Images.joined(firsts).take(order),
        Images.joined(seconds).take(order) if pairs else None,
    )


def _image(data: Array, at: Array, table: LogTable) -> tuple[Images, Array]:
    """Walk one image of many rows; return it, and where each one ends."""
    bits = at
    at = at + (len(table.columns) + 7) // 8
    starts, lengths, valid = [], [], []
    for number, column in enumerate(table.columns):
        there = (data.take(bits + number // 8, mode="clip") >> (number % 8)) & 1 == 0
        if width := column.width:
            length = there * width
        else:
            length = np.where(there, little(data, at, column.prefix), 0)
            at = at + there * column.prefix
        starts.append(at)
        lengths.append(length)
        valid.append(there)
        at = at + length
    return Images(tuple(starts), tuple(lengths), tuple(valid)), at
