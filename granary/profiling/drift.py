"""What moved between two profiles of a table: rows, columns, nulls, distinct values, and the shape of what is in them.

Two measures of shape, both computed from the stored percentiles and shares alone:

- PSI, the population stability index: sum over bins of (now - before) * ln(now / before). For numbers and times the
  bins are the deciles of the profile before; for text the common values of both and one bin for the rest. The usual
  reading, under 0.1 nothing, up to 0.25 some, above it much, is from Siddiqi, "Credit Risk Scorecards" (2006); the sum
  itself is the symmetric divergence J of Jeffreys (Proceedings of the Royal Society A 186, 1946).
- KS, the two-sample Kolmogorov-Smirnov distance: the largest difference between the two distribution functions. On 101
  percentiles it is exact to 0.01 (Massey, Journal of the American Statistical Association 46, 1951).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from granary.profiling.profile import PERCENTS, TOP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from granary.profiling.profile import ColumnProfile, Profile

Level = Literal["some", "much"]
SOME, MUCH = 0.1, 0.25
"""PSI from which on a shape has moved somewhat, and much."""
LEAST_SHARE = 0.0001
"""What an empty bin counts as: PSI is infinite otherwise."""
ROWS_SOME, ROWS_MUCH = 0.2, 0.5
"""Change of the row count, as a share."""
NULLS_SOME, NULLS_MUCH = 0.01, 0.05
"""Change of the share of nulls, absolute."""
DISTINCT_SOME, DISTINCT_MUCH = 0.2, 0.5
SHOWN = 5


@dataclass(frozen=True)
class Move:
    """One thing that moved: the column ("" for the table), what of it, from what to what, and how much."""

    column: str
    what: Literal["rows", "column", "type", "nulls", "distinct", "shape", "values"]
    before: str
    now: str
    level: Level
    psi: float | None = None
    ks: float | None = None


def drift(before: Profile, now: Profile) -> list[Move]:
    """Return what moved, the table first, then column by column."""
    moves = []
    if level := _level(_relative(before.rows, now.rows), ROWS_SOME, ROWS_MUCH):
        moves.append(Move("", "rows", f"{before.rows:,}", f"{now.rows:,}", level))
    for old in before.columns:
        if now.column(old.name) is None:
            moves.append(Move(old.name, "column", old.type, "gone", "much"))
    for new in now.columns:
        was = before.column(new.name)
        if was is None:
            moves.append(Move(new.name, "column", "not there", new.type, "much"))
        elif before.rows and now.rows:
            moves += _column(was, before.rows, new, now.rows)
    return moves


def _column(before: ColumnProfile, rows_before: int, now: ColumnProfile, rows_now: int) -> list[Move]:
    moves = []
    if before.type != now.type:
        moves.append(Move(now.name, "type", before.type, now.type, "much"))
    was, here = before.nulls / rows_before, now.nulls / rows_now
    if level := _level(abs(here - was), NULLS_SOME, NULLS_MUCH):
        moves.append(Move(now.name, "nulls", f"{was:.1%}", f"{here:.1%}", level))
    # A key has as many values as the table has rows: only what is not explained by the number of rows counts.
    shares = before.distinct / rows_before, now.distinct / rows_now
    by_number = _relative(before.distinct, now.distinct)
    if level := _level(min(by_number, _relative(*shares)), DISTINCT_SOME, DISTINCT_MUCH):
        moves.append(Move(now.name, "distinct", f"{before.distinct:,}", f"{now.distinct:,}", level))
    return [*moves, *_shape(before, now)]


def _shape(before: ColumnProfile, now: ColumnProfile) -> list[Move]:
    if before.kind != now.kind:
        return []
    if before.percentiles and now.percentiles:
        index = psi(*shares_of_numbers(before.percentiles, now.percentiles))
        if level := _level(index, SOME, MUCH):
            median = before.shown(before.percentile(50)), now.shown(now.percentile(50))
            distance = ks(before.percentiles, now.percentiles)
            return [Move(now.name, "shape", f"median {median[0]}", f"median {median[1]}", level, index, distance)]
        return []
    if not before.top or not now.top or not _has_common_values(before, now):
        return []
    index = psi(*shares_of_values(before.top, now.top))
    old, new = {value for value, _ in before.top}, {value for value, _ in now.top}
    listed = max(before.distinct, now.distinct) <= TOP  # else a value that is not listed may be there all the same
    removed, added = (sorted(old - new), sorted(new - old)) if listed else ([], [])
    level = _level(index, SOME, MUCH)
    if added or removed or level:
        return [
            Move(
                now.name,
                "values",
                f"had {', '.join(removed[:SHOWN])}" if removed else "",
                f"has {', '.join(added[:SHOWN])}" if added else "",
                level or "some",
                index,
            )
        ]
    return []


def _has_common_values(*profiles: ColumnProfile) -> bool:
    """Whether the common values say something of the column: names and texts that come once do not."""
    return all(sum(share for _, share in profile.top) >= 0.5 for profile in profiles)  # noqa: PLR2004 - half of the rows


def psi(before: Sequence[float], now: Sequence[float]) -> float:
    """Return the population stability index of two lists of shares, bin by bin."""
    floored = [(max(b, LEAST_SHARE), max(n, LEAST_SHARE)) for b, n in zip(before, now, strict=True)]
    return sum((n - b) * math.log(n / b) for b, n in floored)


def ks(before: Sequence[float], now: Sequence[float]) -> float:
    """Return the Kolmogorov-Smirnov distance of two distributions that are given by their percentiles."""
    return max(abs(_below(before, value) - _below(now, value)) for value in {*before, *now})


def _below(percentiles: Sequence[float], value: float) -> float:
    """Return the share of rows that are at most `value`, as far as the percentiles tell."""
    return max(0, bisect_right(percentiles, value) - 1) / (PERCENTS - 1)


def shares_of_numbers(before: Sequence[float], now: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the shares of both in the bins between the deciles of the first; equal deciles make one bin."""
    edges = sorted({before[percent] for percent in range(10, 100, 10)})
    return _between(before, edges), _between(now, edges)


def _between(percentiles: Sequence[float], edges: Sequence[float]) -> list[float]:
    upto = [*(_below(percentiles, edge) for edge in edges), 1.0]
    return [upper - lower for lower, upper in zip([0.0, *upto], upto, strict=False)]


def shares_of_values(
    before: Sequence[tuple[str, float]], now: Sequence[tuple[str, float]]
) -> tuple[list[float], list[float]]:
    """Return the shares of the values that are common in either, and of the rest."""
    values = list(dict.fromkeys(value for value, _ in (*before, *now)))
    shares = [[dict(side).get(value, 0.0) for value in values] for side in (before, now)]
    first, second = ([*side, max(0.0, 1.0 - sum(side))] for side in shares)
    return first, second


def _relative(before: float, now: float) -> float:
    return 0.0 if before == now else abs(now - before) / before if before else math.inf


def _level(change: float, some: float, much: float) -> Level | None:
    return "much" if change >= much else "some" if change >= some else None
