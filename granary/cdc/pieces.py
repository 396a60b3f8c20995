"""Numbers and texts out of bytes, a whole column at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Array: TypeAlias = Any  # a numpy array; numpy's own stubs need Python 3.12 (see pyproject.toml)

PIECE_BYTES = 1 << 16
"""Text that is copied at a time: its places take eight times as much, which should stay in the processor's cache."""


def big(data: Array, at: Array, size: int) -> Array:
    """Return the big-endian unsigned numbers of `size` bytes at some places, as int64."""
    value = np.zeros(len(at), np.int64)
    for offset in range(size):
        value = (value << 8) | data.take(at + offset, mode="clip")
    return value


def little(data: Array, at: Array, size: int) -> Array:
    """Return the little-endian unsigned numbers of `size` bytes at some places, as int64."""
    value = np.zeros(len(at), np.int64)
    for offset in range(size):
        value |= data.take(at + offset, mode="clip").astype(np.int64) << (8 * offset)
    return value


def gather(data: Array, starts: Array, lengths: Array, valid: Array) -> pa.Array:
    """Copy pieces of the data together as one column of text; those that are not valid are null."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    copied = np.empty(offsets[-1], np.uint8)
    row = 0
    while row < len(starts):
        end = max(row + 1, int(np.searchsorted(offsets, offsets[row] + PIECE_BYTES)) - 1)
        low, high = offsets[row], offsets[end]
        if end == row + 1:
            copied[low:high] = data[starts[row] : starts[row] + lengths[row]]
        else:
            shifts = np.repeat(starts[row:end] - offsets[row:end], lengths[row:end])
            copied[low:high] = data[shifts + np.arange(low, high)]
        row = end
    nulls = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.StringArray.from_buffers(len(starts), pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(copied), nulls)
