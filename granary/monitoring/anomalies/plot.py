"""A series with what was expected of it: as a line of blocks for terminals, as SVG for pages."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from granary.monitoring.anomalies.judge import judge
from granary.monitoring.anomalies.metrics import METRICS, shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from granary.monitoring.anomalies.bands import Band
    from granary.monitoring.anomalies.judge import Rules, Seen
    from granary.monitoring.anomalies.observe import Key

LAST = 60
"""Days, or units, that are drawn."""
BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH, HEIGHT, LEFT, FOOT, HEAD = 400, 140, 58, 22, 12
STYLE = """
text{font:12px system-ui,sans-serif;fill:#5c6675}.out{fill:#b3261e}.axis{stroke:#dde2e8}
.band{fill:#2f6f9f;opacity:.2}.value{fill:none;stroke:#2f6f9f;stroke-width:1.5}
@media (prefers-color-scheme:dark){text{fill:#9aa5b4}.out{fill:#ff9d94}.axis{stroke:#313a45}
.band{fill:#6db3e2}.value{stroke:#6db3e2}}
"""


@dataclass(frozen=True)
class Drawn:
    """One value of a series, what was expected of it if anything was, and whether it is an anomaly."""

    day: date
    unit: str
    value: float
    band: Band | None
    is_anomaly: bool


def drawn(history: Sequence[Seen], key: Key, rules: Rules, last: int = LAST) -> list[Drawn]:
    """Return the last values of a series with what was expected of each by those before."""
    found = []
    for place in range(max(0, len(history) - last), len(history)):
        seen = history[place]
        if key not in seen.values:
            continue
        verdict = next((v for v in judge(history, place, rules) if (v.column, v.metric) == key), None)
        band = verdict.band if verdict else None
        found.append(Drawn(seen.day, seen.unit, seen.values[key], band, bool(verdict and verdict.is_anomaly)))
    return found


def spark(series: Sequence[Drawn]) -> tuple[str, str]:
    """Return a series as two lines: a block per value, and below it a mark where one is over or under its band."""
    if not series:
        return "", ""
    low, high = min(one.value for one in series), max(one.value for one in series)
    steps = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    blocks = "".join(BLOCKS[round((one.value - low) * steps)] for one in series)
    return blocks, "".join(_mark(one) for one in series).rstrip()


def _mark(one: Drawn) -> str:
    if not one.is_anomaly or one.band is None:
        return " "
    return "▲" if one.value > one.band.high else "▼"


def svg(series: Sequence[Drawn], key: Key) -> str:
    """Return a picture of a series: the band as an area, the values as a line, anomalies as dots."""
    kind = METRICS[key[1]].kind
    bounds = [bound for one in series if one.band for bound in (one.band.low, one.band.high)]
    low, high = (pick([*(one.value for one in series), *bounds], default=0.0) for pick in (min, max))
    low = min(low, 0.0) if kind in ("count", "share", "hours", "distance") else low
    high = high if high > low else low + 1

    def x(place: int) -> float:
        return LEFT + place * (WIDTH - LEFT - 10) / max(len(series) - 1, 1)

    def y(value: float) -> float:
        return HEAD + (high - value) / (high - low) * (HEIGHT - HEAD - FOOT)

    areas = []
    for run in _runs(series):
        upper = [f"{x(n):.1f},{y(series[n].band.high):.1f}" for n in run]  # type: ignore[union-attr]
        lower = [f"{x(n):.1f},{y(series[n].band.low):.1f}" for n in reversed(run)]  # type: ignore[union-attr]
        areas.append(f'<polygon class="band" points="{" ".join(upper + lower)}"/>')
    line = " ".join(f"{x(n):.1f},{y(one.value):.1f}" for n, one in enumerate(series))
    dots = "".join(
        f'<circle class="out" r="4" cx="{x(n):.1f}" cy="{y(one.value):.1f}"/>'
        for n, one in enumerate(series)
        if one.is_anomaly
    )
    ticks = "".join(
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
        f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{shown(value, kind)}</text>'
        for value in (low, high)
    )
    ends = ""
    if series:
        ends = (
            f'<text x="{LEFT}" y="{HEIGHT - 6}">{series[0].day}</text>'
            f'<text x="{WIDTH}" y="{HEIGHT - 6}" text-anchor="end">{series[-1].day}</text>'
        )
    name = escape(" ".join(key).strip())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"><title>{name}: what came,'
        f" and what was expected</title><style>{STYLE}</style>{ticks}{''.join(areas)}"
        f'<polyline class="value" points="{line}"/>{dots}{ends}</svg>'
    )


def _runs(series: Sequence[Drawn]) -> list[list[int]]:
    """Return the places of values of which something was expected, run by run."""
    runs: list[list[int]] = []
    for place, one in enumerate(series):
        if one.band is not None:
            if not runs or runs[-1][-1] != place - 1:
                runs.append([])
            runs[-1].append(place)
    return runs


def markdown(series: Sequence[Drawn], key: Key) -> str:
    """Return the picture as an image within Markdown, as Dagster shows it."""
    picture = b64encode(svg(series, key).encode()).decode()
    return f"![{' '.join(key).strip()}](data:image/svg+xml;base64,{picture})"
