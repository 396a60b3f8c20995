"""Which observations depart from what the days before made expected: pure, of what was observed alone.

A day is compared with the eight weeks before it, by weekday; the end of a month with earlier ends; and a day on which
all of a source moved a year ago may move so again. Near a day off of the country more or less may come, and near a
public one at other hours. Of a listed holiday, and the days around it, nothing is expected.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import date, timedelta
from statistics import median
from typing import TYPE_CHECKING

from granary.load.days_off import KEPT, PUBLIC
from granary.monitoring.anomalies.bands import QUIET, WINDOW, Band, Point, band, distance, move, moved
from granary.monitoring.anomalies.config import NOTHING_SAID, Config
from granary.monitoring.anomalies.metrics import METRICS, OF_NUMBERS
from granary.monitoring.anomalies.observe import SAMPLE
from granary.profiling.drift import psi

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from granary.monitoring.anomalies.bands import Kind
    from granary.monitoring.anomalies.observe import Key

ROWS: Key = ("", "rows")
A_YEAR_AGO = (timedelta(days=364), timedelta(days=371))
"""The same weekday a year ago, and the one before: Thanksgiving is on either."""
MONTH_ENDS = 400
"""Days in which earlier month ends are looked for."""
TAILS, OF_TAILS = ("p10", "p90"), 1.3
"""The ends of a distribution move more than its middle."""
OF_DAYS_OFF = 1.5
"""How much wider the band of counts is near a day off. Half of what is usual is out of it all the same."""
NAMED = 3
"""Categories that are named."""
NEW, GONE = 0.02, 0.001
"""Shares from which on, and up to which, a category is there."""


@dataclass(frozen=True)
class Seen:
    """What was observed of one day, or of a unit without one; a day on which nothing came has no rows."""

    day: date
    unit: str
    values: Mapping[Key, float]
    shares: Mapping[str, Mapping[str, float]]

    @property
    def rows(self) -> float:
        """Rows that came."""
        return self.values.get(ROWS, 0.0)


@dataclass(frozen=True)
class Rules:
    """How a table is looked at.

    `weekdays`: its days are days, and not units. `sizes`: units are of one size, which can be compared. `times` and
    `whole`: its columns with times, and with whole numbers. `today` is not over: little is no anomaly yet.
    `neighbours` are the rows by day of the source's other tables.
    """

    config: Config = NOTHING_SAID
    weekdays: bool = True
    sizes: bool = True
    times: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    today: date | None = None
    neighbours: tuple[tuple[Point, ...], ...] = ()

    def is_off(self, day: date, kinds: tuple[str, ...] = KEPT) -> bool:
        """Return whether a day is near a day off, on which less or more comes; near a public one, at other hours."""
        return self.weekdays and self.config.days_off.is_near(day, kinds)

    def closes(self, day: date) -> bool:
        """Return whether nothing has to come on a day."""
        return self.weekdays and self.config.days_off.closes(day)


@dataclass(frozen=True)
class Verdict:
    """What one value is, and what was expected; whether it is an anomaly, and what more there is to say of it."""

    column: str
    metric: str
    value: float
    band: Band
    is_anomaly: bool
    note: str = ""


def judge(history: Sequence[Seen], place: int, rules: Rules) -> list[Verdict]:
    """Return what is to be said of a day, by those before it in the history; nothing in the first days.

    Args:
        history: the days, or units, oldest first and without gaps.
        place: of which of them.
        rules: how the table is looked at.
    """
    seen = history[place]
    if rules.weekdays and rules.config.is_holiday(seen.day):
        return []
    past = _past(history, place, rules)
    holidays = _learned(history, place, rules) if rules.weekdays else []
    if holidays:
        return [_widened(one, holidays) for one in _of_key(past, seen, ROWS, rules)]
    keys = [key for key in seen.values if rules.sizes or key != ROWS]
    return [verdict for key in keys for verdict in _of_key(past, seen, key, rules)]


def expected(history: Sequence[Seen], place: int, key: Key, rules: Rules) -> Band | None:
    """Return what is expected of one value, None where nothing is: what a plot shows."""
    return next((one.band for one in judge(history, place, rules) if (one.column, one.metric) == key), None)


def _past(history: Sequence[Seen], place: int, rules: Rules) -> list[Seen]:
    """Return the days before, without the listed holidays."""
    before = history[max(0, place - MONTH_ENDS) : place]
    return [one for one in before if not (rules.weekdays and rules.config.is_holiday(one.day))]


def _of_key(past: Sequence[Seen], seen: Seen, key: Key, rules: Rules) -> Iterator[Verdict]:
    column, metric = key
    kind, value, sensitivity = METRICS[metric].kind, seen.values[key], rules.config.sensitivity
    if kind == "distance":
        yield from _categories(past, seen, key, sensitivity)
        return
    range_ = _range(past[-WINDOW:], column) if metric in OF_NUMBERS else 0.0
    if metric == "mean" and not range_:
        return  # nearly all values are one: what is left has a mean that a few rows make
    if metric in OF_NUMBERS and column in rules.times:
        kind = "time"
        if rules.is_off(seen.day, PUBLIC):
            return  # other hours are no news
    found = _band(
        past, seen, key, kind, rules, step=float(column in rules.whole and metric in OF_NUMBERS), range_=range_
    )
    if found is None:
        return
    out = not found.holds(value) and not (metric == "rows" and not value and rules.closes(seen.day))
    if out and value < found.low and metric in ("rows", "distinct") and rules.today and seen.day >= rules.today:
        out = False  # the day is not over
    if out and metric == "distinct":
        out = not _explained_by_rows(past, seen, key, rules)
    yield Verdict(column, metric, value, found, out)


def _band(
    past: Sequence[Seen], seen: Seen, key: Key, kind: Kind, rules: Rules, *, step: float, range_: float
) -> Band | None:
    points = [_point(one, key) for one in past if key in one.values]
    alike = _month_ends(points, seen.day, kind) if rules.weekdays and _ends_month(seen.day) else []
    return band(
        points,
        _point(seen, key),
        kind,
        weekdays=rules.weekdays,
        step=step,
        range_=range_,
        alike=alike,
        wider=OF_TAILS if key[1] in TAILS else OF_DAYS_OFF if kind == "count" and rules.is_off(seen.day) else 1.0,
        sensitivity=rules.config.sensitivity,
    )


def _point(seen: Seen, key: Key) -> Point:
    return Point(seen.day, seen.values[key], min(seen.rows, SAMPLE))


def _range(past: Sequence[Seen], column: str) -> float:
    """Return how far the lowest and the highest tenth of a column usually are apart."""
    ends = ((column, "p10"), (column, "p90"))
    found = [one.values[ends[1]] - one.values[ends[0]] for one in past if ends[0] in one.values]
    return median(found) if found else 0.0


def _explained_by_rows(past: Sequence[Seen], seen: Seen, key: Key, rules: Rules) -> bool:
    """Return whether there are more or fewer different values because there are more or fewer rows."""
    shares = [Point(one.day, one.values[key] / min(one.rows, SAMPLE), one.rows) for one in past if key in one.values]
    share = seen.values[key] / min(seen.rows, SAMPLE)
    found = band(shares, Point(seen.day, share, seen.rows), "level", weekdays=rules.weekdays)
    return found is not None and found.holds(share)


def _ends_month(day: date) -> bool:
    return day.day == monthrange(day.year, day.month)[1]


def _month_ends(points: Sequence[Point], day: date, kind: Kind) -> list[float]:
    """Return by how much earlier month ends moved from what was expected of them."""
    places = [n for n, one in enumerate(points) if _ends_month(one.day) and one.day < day]
    moves = (move(points[:n], points[n], kind) for n in places)
    return [one for one in moves if one is not None]


def _learned(history: Sequence[Seen], place: int, rules: Rules) -> list[float]:
    """Return by how much the rows moved on this day in the year before, if all of the source moved so then."""
    mine = [_point(one, ROWS) for one in history[:place] if ROWS in one.values]
    every = [mine, *rules.neighbours]
    found = []
    for day in anchors(history[place].day):
        ways = [way for way in (_way(points, day) for points in every) if way is not None]
        by = _moved(mine, day)
        if by is not None and ways and (min(ways) > 0 or max(ways) < 0):
            found.append(by)
    return found


def anchors(day: date) -> list[date]:
    """Return the days of the year before with which a day may be a holiday: of the same date, or the same weekday."""
    same = day - timedelta(days=1) if (day.month, day.day) == (2, 29) else day
    return sorted({same.replace(year=day.year - 1), *(day - ago for ago in A_YEAR_AGO)})


def _moved(points: Sequence[Point], day: date) -> float | None:
    place = next((n for n, one in enumerate(points) if one.day == day), None)
    return None if place is None else move(points[:place], points[place], "count")


def _way(points: Sequence[Point], day: date) -> int | None:
    """Return whether a table's rows were above (1), below (-1) or within (0) what was expected; None if nothing was."""
    place = next((n for n, one in enumerate(points) if one.day == day), None)
    found = None if place is None else band(points[:place], points[place], "count")
    if place is None or found is None:
        return None
    value = points[place].value
    return 1 if value > found.high else -1 if value < found.low else 0


def _widened(verdict: Verdict, moves: Sequence[float]) -> Verdict:
    found = verdict.band
    for by in moves:
        found = moved(found, by, "count")
    return Verdict(verdict.column, verdict.metric, verdict.value, found, not found.holds(verdict.value))


def _categories(past: Sequence[Seen], seen: Seen, key: Key, sensitivity: float) -> Iterator[Verdict]:
    column, value = key[0], seen.values[key]
    earlier = [one.values[key] for one in past[-WINDOW:] if key in one.values]
    usual = reference([one.shares[column] for one in past[-WINDOW:] if column in one.shares])
    found = distance(earlier, min(seen.rows, SAMPLE), len(usual), sensitivity=sensitivity)
    now = seen.shares.get(column, {})
    new = sorted((name for name in now if name and now[name] >= NEW and usual.get(name, 0.0) <= GONE), key=now.get)  # type: ignore[arg-type]
    gone = sorted((name for name in usual if name and usual[name] >= NEW and name not in now), key=usual.get)  # type: ignore[arg-type]
    words = [
        f"{what} {', '.join(f'{name!r} ({of[name]:.0%})' for name in reversed(names[-NAMED:]))}"
        for what, names, of in (("new:", new, now), ("gone:", gone, usual))
        if names
    ]
    yield Verdict(column, key[1], value, found, not found.holds(value), "; ".join(words))


def reference(shares: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the usual share of each category: the median of the days."""
    names = {name for one in shares for name in one}
    return {name: median(one.get(name, 0.0) for one in shares) for name in sorted(names)}


def shift(past: Sequence[Mapping[str, float]], now: Mapping[str, float]) -> float | None:
    """Return how far a day's categories are from the usual ones (PSI), None in the first days."""
    if len(past) < QUIET:
        return None
    usual = reference(past[-WINDOW:])
    names = sorted({*usual, *now})
    return psi([usual.get(name, 0.0) for name in names], [now.get(name, 0.0) for name in names])
