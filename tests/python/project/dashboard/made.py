"""Rows for every data set without a warehouse: one row each, of text and ones, as the pages' columns ask for."""

from __future__ import annotations

from dashboards import PAGES
from granary.pages.dashboard.parts import STATE
from granary.pages.dashboard.read import Rows

DAYS = ("week_start", "day", "started_at")


def made(text: str = "some") -> dict[str, Rows]:
    """Return one row for each data set: `text` where the pages show text, 1 where they show a number, or a day."""
    kinds: dict[str, dict[str, object]] = {}
    for page in PAGES:
        for dataset in page.datasets:
            kinds.setdefault(dataset.name, {})
        for part in (*page.charts, *page.figures):
            columns = part.columns if hasattr(part, "columns") else (part.column, part.previous)
            for column in filter(None, columns):
                for name in column.of if column.kind == "ratio" else (column.name,):
                    shown = "2017-01-02" if name.endswith("_date") or name in DAYS else text
                    kinds[part.dataset][name] = shown if column.format == "text" else 1.0
        for choice in page.filters:
            kinds[choice.dataset][choice.column] = text
    kinds[STATE.name] = {"data_up_to": "2017-01-02", "published_at": "2017-01-03 04:05"}
    return {name: Rows(tuple(row), [list(row.values())], f"-- {text}") for name, row in kinds.items()}
