"""Makes a page of its parts and rows: a file with its rows in it, that a strict policy lets run our script alone."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt
import vl_convert

from granary.pages.dashboard.parts import STATE
from granary.pages.dashboard.read import marts_of
from granary.pages.dashboard.theme import CONFIG, RANGES
from granary.pages.html import BASE, elsewhere, embedded, policy, when

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from granary.dagster.links import Links
    from granary.pages.dashboard.parts import Chart, Figure, Filter, Page
    from granary.pages.dashboard.read import Rows

HERE = Path(__file__).parent
MARK = '<meta name="generator" content="granary dashboard">'
"""In each of our pages, so that an export recognises what it may overwrite."""
SCRIPT, SCRIPT_MARK = "charts.js", "// granary dashboard"
"""The file with the script of all pages, and how it begins."""
MANY = 30
"""More choices than these are searched by typing."""


def render(page: Page, pages: Sequence[Page], data: Mapping[str, Rows], links: Links, written: str) -> str:
    """Return the page's HTML; `written` is when that is."""
    near = elsewhere("elsewhere", {"Data documentation": links.docs, "Dagster": links.dagster})
    style = BASE + (HERE / "page.css").read_text(encoding="utf-8")
    figures = "".join(_figure(number, figure) for number, figure in enumerate(page.figures))
    charts = "".join(_chart(chart, page, data[chart.dataset], links) for chart in page.charts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'{MARK}<meta http-equiv="Content-Security-Policy" content="{policy(beside=True)}">'
        f"<title>{escape(page.title)} · Granary</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<style>{style}</style></head><body><a class="skip" href="#main">To the content</a>'
        f"<header><strong>Granary</strong>{_pages(page, pages)}{near}</header>"
        f'<main id="main"><h1>{escape(page.title)}</h1><p class="lead">{escape(page.lead)}</p>'
        f'<p class="state">{_state(data[STATE.name], written)}</p>'
        f"<noscript><p>The figures and charts are drawn by {SCRIPT}, a script beside this file: please allow it to run."
        "</p></noscript>"
        f"{_filters(page.filters, data)}"
        + (f'<dl class="figures" aria-live="polite">{figures}</dl>' if figures else "")
        + f'<div class="charts">{charts}</div></main>'
        f"<footer><p>Made from the warehouse in one snapshot. This file loads {SCRIPT} beside it, and"
        f" nothing from elsewhere.{when(links, 'docs', 'dagster')}</p></footer>"
        f'<script type="application/json" id="page">{embedded(_payload(page, data) | {"written": written})}</script>'
        f'<script src="{SCRIPT}"></script></body></html>\n'
    )


@cache
def script() -> str:
    """Return Vega-Lite with all that it needs, and our script after it: one file for all pages."""
    library: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub forgets the default
    ours = (HERE / "page.js").read_text(encoding="utf-8")
    return f"{SCRIPT_MARK}\n(() => {{{library}}})();\n{ours}"


def _payload(page: Page, data: Mapping[str, Rows]) -> dict[str, Any]:
    return {
        "ranges": RANGES,
        "datasets": {
            dataset.name: {
                "columns": data[dataset.name].columns,
                "rows": data[dataset.name].rows,
                "totals": dataset.totals,
            }
            for dataset in page.datasets
        },
        "figures": [asdict(figure) for figure in page.figures],
        "charts": [
            {
                "name": chart.name,
                "dataset": chart.dataset,
                "columns": [asdict(column) for column in chart.columns],
                "ignores": chart.ignores,
                "order": chart.order,
                "limit": chart.limit,
                **_drawing(chart),
            }
            for chart in page.charts
        ],
    }


def _drawing(chart: Chart) -> dict[str, Any]:
    """Return the specification, and the column and height of a band where the chart is made of horizontal bands."""
    found = specification(chart)
    if not found or not isinstance(found.get("height"), dict):
        return {"spec": found, "step": None}
    layers = [found["encoding"]] if "encoding" in found else [layer["encoding"] for layer in found["layer"]]
    field = next(layer["y"]["field"] for layer in layers if "field" in layer.get("y", {}))
    return {"spec": found, "step": {"field": field, "size": found.pop("height")["step"]}}


def specification(chart: Chart) -> dict[str, Any] | None:
    """Return the chart as Vega-Lite, checked against its schema; the schema's address is left out."""
    if not chart.draw:
        return None
    drawn = chart.draw(alt.Chart(alt.NamedData(name="table")))
    if not isinstance(drawn, alt.FacetChart):
        drawn = drawn.properties(width="container")
    found: dict[str, Any] = drawn.to_dict()
    found.pop("$schema", None)
    found["config"] = CONFIG
    return found


def _pages(page: Page, pages: Sequence[Page]) -> str:
    items = "".join(
        f'<a href="{one.name}.html"{" aria-current=page" if one.name == page.name else ""}>{escape(one.title)}</a>'
        for one in pages
    )
    return f'<nav class="pages" aria-label="Pages">{items}</nav>'


def _filters(filters: Sequence[Filter], data: Mapping[str, Rows]) -> str:
    if not filters:
        return ""
    return (
        '<form class="filters" aria-label="Filters">'
        + "".join(_filter(one, data[one.dataset]) for one in filters)
        + '<div><button type="button" id="reset">Reset</button></div></form>'
    )


def _filter(one: Filter, rows: Rows) -> str:
    place = rows.columns.index(one.column)
    values = list(dict.fromkeys(row[place] for row in rows.rows if row[place] is not None))
    first = values[-1] if one.latest and values else ""
    options = "".join(f'<option value="{escape(str(value))}">{escape(str(value))}</option>' for value in values)
    about = f'id="filter-{one.column}" data-column="{one.column}" data-first="{escape(str(first))}" autocomplete="off"'
    label = f'<div><label for="filter-{one.column}">{escape(one.label)}</label>'
    if len(values) <= MANY:
        return f'{label}<select {about}><option value="">{escape(one.everything)}</option>{options}</select></div>'
    return (
        f'{label}<input type="search" {about} list="choices-{one.column}" placeholder="{escape(one.everything)}">'
        f'<datalist id="choices-{one.column}">{options}</datalist></div>'
    )


def _state(state: Rows, written: str) -> str:
    """Return up to which day the page has data, and when that was published and written."""
    data_up_to, published_at = state.rows[0] if state.rows else (None, None)
    parts = [
        f"Data up to {escape(str(data_up_to))}" if data_up_to else "No data yet",
        f"published {escape(str(published_at))} UTC" if published_at else "",
        f"written {escape(written)} UTC",
    ]
    return " · ".join(part for part in parts if part)


def opening(page: Page, chart: Chart, rows: Rows) -> list[dict[str, Any]]:
    """Return the rows of a chart that its page shows when it opens: what the filters begin with, and no totals."""
    found = [dict(zip(rows.columns, row, strict=True)) for row in rows.rows]
    totals = next(dataset.totals for dataset in page.datasets if dataset.name == chart.dataset)
    for one in page.filters:
        if one.column not in rows.columns or one.column in chart.ignores:
            continue
        values = [row[one.column] for row in found if row[one.column] is not None]
        if one.latest and values:
            found = [row for row in found if row[one.column] == values[-1]]
        elif one.column in totals:
            found = [row for row in found if row[one.column] is None]
    return found


def _figure(number: int, figure: Figure) -> str:
    return (
        f'<div id="figure-{number}"><dt>{escape(figure.label)}</dt><dd class="value"></dd>'
        '<dd class="change"></dd></div>'
    )


def _read(sql: str, links: Links) -> str:
    """Return which marts a query reads, each with its place in the documentation if that is known."""
    names = [
        f'<a href="{escape(address)}">{name}</a>' if (address := links.mart(name)) else f"<code>{name}</code>"
        for name in marts_of(sql)
    ]
    return f'<p class="from">From {", ".join(names)}</p>' if names else ""


def _chart(chart: Chart, page: Page, rows: Rows, links: Links) -> str:
    opened = opening(page, chart, rows)
    finding = (chart.finding(opened) if opened else None) or chart.title
    table = (
        '<p class="shown"></p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(chart.title)}: table">'
        "<table><thead></thead><tbody></tbody></table></div>"
    )
    caption = f"{escape(chart.title)}. {escape(chart.note)}"
    drawn = f'<div class="chart" role="img" aria-label="{caption}"><div aria-hidden="true"></div></div>'
    return (
        f'<section id="{chart.name}"{" class=wide" if chart.wide else ""} aria-labelledby="{chart.name}-title">'
        f'<h2 id="{chart.name}-title" data-title="{escape(chart.title)}" data-finding="{escape(finding)}">'
        f"{escape(finding)}</h2><p>{escape(chart.note)}</p>"
        f'<p class="empty" hidden>{escape(chart.empty)}</p>'
        + (f"{drawn}<details><summary>As a table</summary>{table}</details>" if chart.draw else table)
        + f'<details><summary>The query and its rows</summary><p><button type="button" class="download">Download as CSV'
        f'<span class="hidden">: {escape(chart.title)}</span></button></p>'
        f'<pre tabindex="0" aria-label="SQL">{escape(rows.sql)}</pre></details>{_read(rows.sql, links)}</section>'
    )
