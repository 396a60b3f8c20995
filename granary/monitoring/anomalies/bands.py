"""What a value is expected to be, by the values before it: robust statistics, without a model to fit or a setting.

The level is the median of comparable days, the spread the median absolute deviation (MAD) times 1.4826, which for
normal data is the standard deviation (Leys et al., "Detecting outliers: do not use standard deviation around the mean,
use absolute deviation around the median", Journal of Experimental Social Psychology 49, 2013; Iglewicz and Hoaglin,
"How to Detect and Handle Outliers", 1993, who take 3.5 spreads for one look at one sample). Half of the days before may
be wrong and both still hold. Since thousands of values are looked at, a band is wider than theirs.

Each kind of value is compared on the scale on which chance has the same size everywhere: counts as square roots (chance
is a half, whatever the count: Anscombe, Biometrika 35, 1948), shares as arcsines of roots (chance is 1 / (2 sqrt n)).
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

Kind = Literal["count", "share", "level", "time", "hours", "distance"]
"""count: a number of things. share: from 0 to 1. level: any number. time: hours from the beginning of a day. hours:
late by. distance: how far two distributions are apart; of the last two only a high one is an anomaly."""

QUIET = 14
"""Days, or units where they have none, that must be there before anything is expected."""
WINDOW = 56
"""Days that are looked back on: eight of each weekday."""
PER_WEEKDAY = 4
"""Days of each weekday from which on a weekday has a level of its own."""
TREND = 14
"""The last days, of which the median tells how the level has moved."""
SPREADS = 6.0
"""How many spreads a value may be away, at sensitivity 1."""
FEWER = 0.8
"""The part of the width that a count may be below: days of twice as much have reasons more often than those of half."""
MORE = 20
"""So many more than what chance explains are no anomaly of a count: small numbers come in bursts."""
SCALED = 1.4826
LEAST_MEMBERS = 3
"""Earlier month ends from which on a month end is expected to move as these did."""
PSI = 0.25
OF_RANGE = 0.04
"""The least spread of a mean or quantile, as a share of the range in which most values of the column are."""


@dataclass(frozen=True)
class Point:
    """A value of a series: its day, its value, and how many rows it was computed from."""

    day: date
    value: float
    rows: float


@dataclass(frozen=True)
class Band:
    """What a value is expected to be, and from where on it is an anomaly on either side."""

    low: float
    expected: float
    high: float

    def holds(self, value: float) -> bool:
        """Return whether a value is expected."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Floor:
    """The least spread: of the scale itself (`chance`), and as a share of the level (`relative`)."""

    chance: float
    relative: float


FLOORS: Mapping[Kind, Floor] = {
    "count": Floor(0.5, 0.035),
    "share": Floor(0.02, 0.0),
    "level": Floor(0.0, 0.03),
    "time": Floor(0.1, 0.0),
    "hours": Floor(1.0, 0.05),
}


def band(
    past: Sequence[Point],
    at: Point,
    kind: Kind,
    *,
    weekdays: bool = True,
    step: float = 0.0,
    range_: float = 0.0,
    alike: Sequence[float] = (),
    wider: float = 1.0,
    sensitivity: float = 1.0,
) -> Band | None:
    """Return what is expected on a day, None while there is too little to expect anything from.

    Args:
        past: the days before, oldest first.
        at: the day, and its number of rows; its value is not looked at.
        kind: what the value is.
        weekdays: whether days are compared with those of the same weekday.
        step: what one step of a column is that has whole numbers only: two of it are never an anomaly.
        range_: how far apart most values of the column are: a small part of that is never an anomaly.
        alike: by how much earlier days of the same kind, such as month ends, moved from what was expected of them.
        wider: how much wider the band is than for other values.
        sensitivity: 2 halves the width, 0.5 doubles it.
    """
    if (found := _expected(past, at, kind, weekdays=weekdays)) is None:
        return None
    centre, spread = found
    if len(alike) >= LEAST_MEMBERS:
        centre, spread = centre + median(alike), max(spread, SCALED * _mad(alike))
    spread = max(spread, _floor(kind, centre, at.rows), OF_RANGE * range_)
    width = max(SPREADS * wider / sensitivity * spread, 2 * step)
    below = width * FEWER if kind == "count" else width
    low, high = _value(centre - below, kind), _value(centre + width, kind)
    high += MORE / sensitivity if kind == "count" else 0
    return Band(0.0 if kind == "hours" else low, _value(centre, kind), high)


def move(past: Sequence[Point], at: Point, kind: Kind, *, weekdays: bool = True) -> float | None:
    """Return how far a value was from what was expected, on the scale of its kind; None where nothing was."""
    found = _expected(past, at, kind, weekdays=weekdays)
    return None if found is None else _scaled(at.value, kind) - found[0]


def moved(band_: Band, by: float, kind: Kind) -> Band:
    """Return a band that also holds what is expected of a day that moves by so much."""
    low, high = (_value(_scaled(bound, kind) + by, kind) for bound in (band_.low, band_.high))
    return Band(min(low, band_.low), band_.expected, max(high, band_.high))


def _expected(past: Sequence[Point], at: Point, kind: Kind, *, weekdays: bool) -> tuple[float, float] | None:
    """Return level and spread, on the scale of the kind."""
    first = at.day - timedelta(days=WINDOW)
    recent = [point for point in past[-WINDOW:] if not weekdays or point.day >= first]
    if len(recent) < QUIET:
        return None
    scaled = [(point, _scaled(point.value, kind)) for point in recent]
    levels = _levels(scaled, weekdays=weekdays)
    moves = [value - levels[point.day.weekday()] for point, value in scaled]
    spread = SCALED * _mad(moves)
    # A level that doubles for a week is a fault and no trend: only so much of it is followed.
    followed = max(-spread, min(spread, median(moves[-TREND:])))
    centre = levels[at.day.weekday()] + followed
    return centre, spread


def distance(past: Sequence[float], rows: float, bins: int, *, sensitivity: float = 1.0) -> Band:
    """Return from where on two distributions are too far apart, by the population stability index.

    0.25 is the usual limit (see granary/profiling/drift.py); what was usual before, and what chance does with so few
    rows, are added: the index of equal distributions is chi-squared with bins - 1 degrees of freedom, over the rows
    (Yurdakul, "Statistical Properties of Population Stability Index", Western Michigan University, 2018).
    """
    usual = median(past) if past else 0.0
    spread = SCALED * _mad(past) if past else 0.0
    chance = (bins - 1 + 3 * math.sqrt(2 * max(bins - 1, 0))) / max(rows, 1.0)
    return Band(0.0, usual, usual + max(PSI / sensitivity, SPREADS / sensitivity * spread) + chance)


def _levels(scaled: Sequence[tuple[Point, float]], *, weekdays: bool) -> Mapping[int, float]:
    """Return the level of each weekday: its own median where there are enough days of it, else that of all."""
    every = median(value for _, value in scaled)
    found: dict[int, float] = defaultdict(lambda: every)
    if weekdays:
        by_weekday: dict[int, list[float]] = defaultdict(list)
        for point, value in scaled:
            by_weekday[point.day.weekday()].append(value)
        found |= {day: median(values) for day, values in by_weekday.items() if len(values) >= PER_WEEKDAY}
    return found


def _mad(values: Sequence[float]) -> float:
    """Return the median absolute deviation from the median."""
    centre = median(values)
    return median(abs(value - centre) for value in values)


def _floor(kind: Kind, expected: float, rows: float) -> float:
    floor = FLOORS[kind]
    chance = max(floor.chance, 0.5 / math.sqrt(max(rows, 1.0))) if kind == "share" else floor.chance
    return max(chance, floor.relative * abs(expected))


def _scaled(value: float, kind: Kind) -> float:
    if kind == "count":
        return math.sqrt(max(value, 0.0))
    if kind == "share":
        return math.asin(math.sqrt(max(0.0, min(1.0, value))))
    return value


def _value(scaled: float, kind: Kind) -> float:
    """Return the value that is so on its scale; the opposite of `_scaled`."""
    if kind == "count":
        return max(scaled, 0.0) ** 2
    if kind == "share":
        return math.sin(max(0.0, min(math.pi / 2, scaled))) ** 2
    return scaled
