"""How charts look: colours that colour-blind people tell apart, and text in the colours of the page."""

from __future__ import annotations

from typing import Any

BLUE, ORANGE, GREEN, GREY, SKY, PINK = "#0072b2", "#d55e00", "#009e73", "#7b8794", "#56b4e9", "#cc79a7"
"""Okabe and Ito's palette (Color Universal Design, 2008), and a grey."""

CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "bar": {"color": BLUE},
    "line": {"color": BLUE, "strokeWidth": 2},
    "point": {"color": BLUE, "filled": True, "size": 60},
    "rule": {"color": GREY},
    "text": {"color": "var(--ink)", "fontSize": 12},
    "axis": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--quiet)",
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelLimit": 420,
    },
    "legend": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--quiet)",
        "titleFontWeight": "normal",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "orient": "top",
        "labelLimit": 260,
    },
    "header": {"labelColor": "var(--ink)", "titleColor": "var(--quiet)", "labelFontSize": 12},
    "range": {"category": [BLUE, ORANGE, GREEN, GREY, SKY, PINK]},
}

RANGES = {
    "light": {
        "heatmap": ["#e3eef7", "#9cc6e3", "#4292c6", "#08519c"],
        "diverging": ["#d55e00", "#f4f4f2", "#0072b2"],
    },
    "dark": {
        "heatmap": ["#1b2e40", "#23577f", "#4b9bd1", "#b9dff7"],
        "diverging": ["#ff9a4d", "#252c34", "#74c0f5"],
    },
}
"""The colours of cells, from less to more; more is blue everywhere. In the dark, less is what is near the page."""
LESS, MORE = "var(--on-less)", "var(--on-more)"
"""The colours of letters on cells of less and of more (page.css)."""
