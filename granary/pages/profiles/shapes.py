"""The shape of a column as a few heights, made from its percentiles or its common values."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.profiling.profile import ColumnProfile

BLOCKS = " ▁▂▃▄▅▆▇█"
LOW, HIGH = 1, 99
"""Percentiles between which a histogram is drawn: a single outlier would leave one bar and a line."""


def histogram(percentiles: Sequence[float], bins: int) -> list[float]:
    """Return the shares of rows in `bins` equally wide bins from the 1st to the 99th percentile; empty without any."""
    if not percentiles:
        return []
    low, high = percentiles[LOW], percentiles[HIGH]
    if low == high:
        return [1.0]
    within = percentiles[LOW : HIGH + 1]
    edges = [low + (high - low) * number / bins for number in range(1, bins)]
    upto = [0, *(bisect_right(within, edge) for edge in edges), len(within)]
    return [(upper - lower) / len(within) for lower, upper in pairwise(upto)]


def heights(column: ColumnProfile, bins: int) -> list[float]:
    """Return what is drawn of a column, from 0 to 1: its histogram, or its common values side by side."""
    shares = histogram(column.percentiles, bins) or [share for _, share in column.top]
    most = max(shares, default=0.0)
    return [share / most for share in shares] if most else []


def spark(column: ColumnProfile, bins: int = 12) -> str:
    """Return the shape as one line of block characters; what is there at all is at least the lowest block."""
    steps = len(BLOCKS) - 1
    return "".join(BLOCKS[max(1, round(height * steps)) if height else 0] for height in heights(column, bins))


def bar(share: float, width: int = 6) -> str:
    """Return a share from 0 to 1 as a bar; one that is not 0 is never empty."""
    eighths = "▏▎▍▌▋▊▉█"
    filled = max(1, round(share * width * 8)) if share else 0
    return "█" * (filled // 8) + (eighths[filled % 8 - 1] if filled % 8 else "")
