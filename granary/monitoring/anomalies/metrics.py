"""What is measured of a table and of its columns, of which kind it is, and how it is told in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from granary.warehouse.words import Amount

if TYPE_CHECKING:
    from granary.monitoring.anomalies.bands import Band, Kind


@dataclass(frozen=True)
class Metric:
    """What one measures: its kind, and how a value and the band around it read.

    `hours` are the words where the column is a time, which is measured in hours from the beginning of its day.
    """

    kind: Kind
    words: str
    hours: str = ""


METRICS = {
    "rows": Metric("count", "{value:row}, expected {low} to {high}"),
    "lateness": Metric("hours", "came {value:hour} after the day had ended, expected at most {high}"),
    "nulls": Metric("share", "{value} of {column} is empty, expected {low} to {high}"),
    "distinct": Metric("count", "{column} has {value:different value}, expected {low} to {high}"),
    "mean": Metric(
        "level",
        "the mean of {column} is {value}, expected {low} to {high}",
        "{column} is {value:hour} after midnight on average, expected {low} to {high}",
    ),
    "p10": Metric(
        "level",
        "a tenth of {column} is up to {value}, expected {low} to {high}",
        "a tenth of {column} is up to {value:hour} after midnight, expected {low} to {high}",
    ),
    "p50": Metric(
        "level",
        "the median of {column} is {value}, expected {low} to {high}",
        "half of {column} is up to {value:hour} after midnight, expected {low} to {high}",
    ),
    "p90": Metric(
        "level",
        "nine tenths of {column} are up to {value}, expected {low} to {high}",
        "nine tenths of {column} are up to {value:hour} after midnight, expected {low} to {high}",
    ),
    "categories": Metric("distance", "the values of {column} have shifted by {value} (PSI), expected at most {high}"),
}
"""By name, in the order in which they are told."""
OF_NUMBERS = ("mean", "p10", "p50", "p90")
THOUSAND = 1000


def told(metric: str, column: str, value: float, band: Band, *, is_time: bool = False, note: str = "") -> str:
    """Return in plain words what a value is and what was expected."""
    if metric == "rows" and not value:
        return f"no rows came, expected {shown(band.low, 'count')} to {shown(band.high, 'count')}"
    known = METRICS[metric]
    words = known.hours if is_time and known.hours else known.words
    low, high = (shown(bound, known.kind) for bound in (band.low, band.high))
    return words.format(column=column, value=Amount(shown(value, known.kind)), low=low, high=high) + (
        f"; {note}" if note else ""
    )


def shown(value: float, kind: Kind) -> str:
    """Return a value as people write it."""
    if kind == "share":
        return f"{value:.1%}"
    if kind == "count" or abs(value) >= THOUSAND:
        return f"{value:,.0f}"
    if kind == "hours":
        return f"{value:.0f}"
    return f"{value:.2f}"
