"""What was measured at each factor, as a table and as a picture: seconds against the history that was there."""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any

import altair as alt
import vl_convert

from bench.scale_steps import GROWING, STEPS
from granary.cli import output
from granary.cli.tables import shown
from granary.pages.dashboard.theme import CONFIG

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COLUMNS = ("step", "times the sample", "seconds", "rows", "s per million rows", "times as long", "peak MB")
BETWEEN = re.compile(r"(?<=<!-- measured: begin -->\n)[\s\S]*(?=<!-- measured: end -->)")
COLOURS = {"var(--ink)": "#1f2933", "var(--quiet)": "#52606d", "var(--line)": "#d9e0e7", "transparent": "white"}
"""Those of the dashboard in the light: a picture of its own has no page to take them from."""
ALT = "Seconds against the factor, in two panels: what all rows cost, and what a change costs"
PANELS = {True: "What all rows cost", False: "What a change costs"}


def report(folder: Path, page: Path | None) -> None:
    """Print the table and write the picture beside the results, and both into a page.

    Raises:
        SystemExit: nothing was measured, or the page has no place for it.
    """
    path = folder / "results.json"
    if not path.exists():
        sys.exit(f"bench scale: nothing has been measured: there is no {path}")
    results = json.loads(path.read_text())
    found = rows(results)
    output.table(f"Cost against history; {measured(results['asked'])}", COLUMNS, found)
    picture(found, folder / "scale.svg")
    output.line(f"Picture: {folder / 'scale.svg'}")
    if page:
        text = page.read_text(encoding="utf-8")
        if not BETWEEN.search(text):
            sys.exit(f"bench scale: {page} has no place for what is measured")
        said = f"\nMeasured with {measured(results['asked'])}.\n\n{markdown(found)}\n![{ALT}]({page.stem}.svg)\n\n"
        page.write_text(BETWEEN.sub(lambda _: said, text), encoding="utf-8")
        picture(found, page.with_suffix(".svg"))


def measured(asked: Mapping[str, Any]) -> str:
    """Say which part of the sample was measured, and where."""
    promotions = asked["promotions"]
    share = "all promotions" if promotions == 1 else f"the promotions of {promotions:.0%} of the products"
    members = f"the first {asked['households']:,} customers" if asked["households"] else "all customers"
    return f"{members} and {share}, on {os.cpu_count()} cores"


def rows(results: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Return a row per step and factor; times as long: against the smallest factor."""
    found = []
    for step in STEPS:
        first = None
        for factor in sorted(results["factors"], key=int):
            if one := results["factors"][factor]["steps"].get(step):
                seconds, count = one["seconds"], one["rows"]
                first = first or seconds
                cost = seconds / count * 1e6 if count else None
                found.append((step, int(factor), seconds, count, cost, seconds / first, one["peak_mb"]))
    return found


def markdown(found: list[tuple[Any, ...]]) -> str:
    """Return the table as a page has it."""
    lines = [f"| {' | '.join(COLUMNS)} |", f"|---|{'---:|' * (len(COLUMNS) - 1)}"]
    for row in found:
        cells = ["" if cell == 0 else shown(cell) for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def picture(found: list[tuple[Any, ...]], path: Path) -> None:
    """Draw seconds against the factor: a straight line through zero is linear, a level one is flat."""
    points = [{"step": row[0], "factor": row[1], "seconds": row[2]} for row in found]
    panels = [_panel([p for p in points if (p["step"] in GROWING) == grows], PANELS[grows]) for grows in PANELS]
    chart = alt.hconcat(*panels).resolve_scale(color="independent")
    config = json.dumps(CONFIG)
    for name, colour in COLOURS.items():
        config = config.replace(name, colour)
    spec = chart.to_dict() | {"config": json.loads(config)}
    path.write_text(vl_convert.vegalite_to_svg(spec) + "\n", encoding="utf-8")


def _panel(points: list[dict[str, Any]], title: str) -> alt.Chart:
    factors = sorted({point["factor"] for point in points})
    names = list(dict.fromkeys(point["step"] for point in points))
    chart: alt.Chart = (
        alt.Chart(alt.InlineData(values=points), title=title, width=330, height=260)
        .mark_line(point={"size": 60})
        .encode(
            x=alt.X("factor:Q", title="times the sample", axis=alt.Axis(values=factors), scale=alt.Scale(domainMin=0)),
            y=alt.Y("seconds:Q", title="seconds", scale=alt.Scale(domainMin=0), axis=alt.Axis(tickCount=5)),
            color=alt.Color("step:N", title=None, sort=names, legend=alt.Legend(columns=2, columnPadding=24)),
        )
    )
    return chart
