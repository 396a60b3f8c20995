"""What became of the faults of a year that was played: the confusion table, and a picture of it."""

from __future__ import annotations

import json
from collections import defaultdict
from statistics import median
from typing import TYPE_CHECKING, Any

import altair as alt
import vl_convert

from bench.alerts_faults import FAULTS
from bench.scale_report import COLOURS
from granary.cli import output
from granary.pages.dashboard.theme import CONFIG

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date
    from pathlib import Path

    from bench.alerts import Planted
    from bench.alerts_replay import Found

RECALL, RIGHT, SECONDS, FALSE = 0.95, 0.9, 30.0, 2
"""What is asked for: of the faults found, and named right; how soon; and false alarms in a year."""
COLUMNS = ("fault", "planted", "found", "one incident", "right cause", "slowest, s", "said instead")
QUESTIONS = ("found", "one incident", "right cause")


def print_clean(found: Sequence[tuple[date, Found]], seconds: float) -> None:
    """Print the false alarms of a year."""
    rows = [(f"{day}", one.cause, ", ".join(one.kinds), one.title) for day, one in found]
    output.table(
        f"The year without faults: {len(found)} false alarms, at most {FALSE} are agreed ({seconds:,.0f} s)",
        ("day", "cause", "signals", "what"),
        rows,
    )


def print_faults(found: Sequence[Planted], seconds: float) -> None:
    """Print the confusion table: what became of the faults of each kind."""
    kinds: dict[str, list[Planted]] = defaultdict(list)
    for one in found:
        kinds[one.fault.kind].append(one)
    rows = [
        (
            kind,
            len(of),
            sum(bool(one.found) for one in of),
            sum(one.is_one for one in of),
            sum(one.is_right for one in of),
            f"{max((one.seconds for one in of if one.found), default=0):.1f}",
            "; ".join(str(one) for one in of if not (one.is_one and one.is_right)),
        )
        for kind, of in kinds.items()
    ]
    planted = f"{len(found)} of {len(FAULTS)} faults, of {len(kinds)} kinds, planted in the year"
    output.table(f"{planted} ({seconds:,.0f} s)", COLUMNS, rows)
    hits = [one for one in found if one.found]
    slow = [one.seconds for one in hits]
    if hits:
        output.line(
            f"found {len(hits) / len(found):.1%} (asked {RECALL:.0%}); one incident"
            f" {sum(one.is_one for one in found) / len(found):.1%}; right cause"
            f" {sum(one.is_right for one in found) / len(found):.1%} (asked {RIGHT:.0%}); there after"
            f" {median(slow):.1f} s, at most {max(slow):.1f} s (asked {SECONDS:.0f} s); over when repaired"
            f" {sum(one.closed for one in hits)} of {len(hits)}"
        )


def picture(found: Sequence[Planted], path: Path) -> None:
    """Draw for each kind how many of its faults were found, were one incident, and were named right."""
    cells: list[dict[str, Any]] = []
    for kind in dict.fromkeys(one.fault.kind for one in found):
        of = [one for one in found if one.fault.kind == kind]
        counts = (sum(bool(one.found) for one in of), sum(one.is_one for one in of), sum(one.is_right for one in of))
        cells += [
            {"kind": kind, "question": question, "share": count / len(of), "words": f"{count} of {len(of)}"}
            for question, count in zip(QUESTIONS, counts, strict=True)
        ]
    base = alt.Chart(alt.InlineData(values=cells), width=330).encode(
        x=alt.X("question:N", title=None, sort=QUESTIONS, axis=alt.Axis(orient="top", labelAngle=0)),
        y=alt.Y("kind:N", title=None, sort=None),
    )
    scale = alt.Scale(domain=[0, 1], range=["#d1495b", "#d9efe2"])
    tiles = base.mark_rect(stroke="white").encode(color=alt.Color("share:Q", scale=scale, legend=None))
    config = json.dumps(CONFIG)
    for name, colour in COLOURS.items():
        config = config.replace(name, colour)
    spec = (tiles + base.mark_text().encode(text="words:N")).to_dict()
    spec |= {"config": json.loads(config), "padding": {"left": 40}}
    path.write_text(vl_convert.vegalite_to_svg(spec) + "\n", encoding="utf-8")
